"""A tracker that is out of reach when the run starts is told and done without."""

import sys
import types

import pytest
from verl.trainer.ppo.v1 import trainer_base

from prefix_opd.verl_plugin.trainer.trackers import Trackers


def wandb(init):
    module = types.ModuleType("wandb")
    module.init, module.lines, module.ended = init, [], 0
    module.log = lambda data, step: module.lines.append((step, data))

    def finish(exit_code):
        module.ended += 1
        raise ConnectionError("no route to host")

    module.finish = finish
    return module


def test_one_that_cannot_be_reached_is_left_out(monkeypatch, caplog):
    caplog.set_level("WARNING", logger="prefix_opd")

    def unreachable(**_):
        raise ConnectionError("api.wandb.ai does not answer")

    monkeypatch.setitem(sys.modules, "wandb", wandb(unreachable))
    made = Trackers("project", "run", ["console", "wandb"], {"trainer": {}})
    assert list(made.logger) == ["console"]
    assert caplog.text.count("wandb cannot be reached (api.wandb.ai does not answer)") == 1


def test_one_that_can_be_reached_is_written_to_and_ended_once(monkeypatch):
    module = wandb(lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    made = Trackers("project", "run", ["wandb"], {"trainer": {}})
    assert module.ended == 0
    made.log({"loss": 1}, step=3)
    made.finish()
    made.finish()
    assert module.lines == [(3, {"loss": 1})] and module.ended == 1


def test_a_name_that_verl_does_not_know_is_bad_input():
    with pytest.raises(AssertionError, match="wandd is not supported"):
        Trackers("project", "run", ["wandd"])


def test_verls_trainers_make_them():
    assert trainer_base.Tracking is Trackers
