"""A probe that fails costs its measurement and nothing else."""

import types

import pytest

from prefix_opd.base.errors import RunStopped
from prefix_opd.config.settings import ProbeSettings
from prefix_opd.verl_plugin.trainer import probe as module
from prefix_opd.verl_plugin.trainer.probe import Probe


@pytest.fixture
def probe(monkeypatch):
    warned, cleared = [], []
    failures = ["row 3, rollout 0: OSError: the engine is busy"]
    guard = types.SimpleNamespace(take_failures=lambda: failures, warn=warned.append)
    made = Probe(types.SimpleNamespace(settings=types.SimpleNamespace(probe=ProbeSettings(every=2)), guard=guard))
    monkeypatch.setattr(module, "forget_rollouts", lambda: cleared.append(True))
    made.warned, made.cleared, made.failures = warned, cleared, failures
    return made


def failing(error):
    def sample(step):
        raise error

    return sample


def test_the_step_goes_on_and_the_failed_rollout_is_named(probe):
    probe._sample = failing(RuntimeError("3 of 4 came back scored"))
    probe.run(3)
    assert probe.warned == [
        "its probe is skipped, 1 of its rollouts failed (row 3, rollout 0: OSError: the engine is busy)"
    ]
    assert probe.cleared == [True], "nothing of it is left for training to find"
    found = probe.take()
    assert found["prefix_opd/probe/failed"] == 1.0 and "prefix_opd/probe/seconds" in found
    assert probe.first is None and probe.flops == 0.0


def test_without_a_reason_the_error_is_told(probe):
    probe.failures.clear()
    probe._sample = failing(RuntimeError("no materializable trajectories"))
    probe.run(3)
    assert "(RuntimeError: no materializable trajectories)" in probe.warned[0]


def test_an_end_of_the_run_is_an_end(probe):
    probe._sample = failing(RunStopped("step 3: the disk is full"))
    with pytest.raises(RunStopped):
        probe.run(3)
