"""Runs of the real program whose teacher fails in every way it can, and that are hurt from outside."""

import contextlib
import os
import signal
import time

import pytest

from faults.harness import EXACT, LEARNT, LEDGER, TEACHER_FAULTS, Run
from harness.isolation import become_subreaper
from prefix_opd.base.errors import EXIT_FAILED, EXIT_STOPPED
from prefix_opd.run.log import read_metrics

OPTIMIZER = "optim_world_size_1_rank_0.pt"
FAULTS = {2: "uniform", 3: "shifted", 4: "not_finite", 5: "stalled"}
"""Step -> the teacher's fault in the first attempt. Rollouts of step 1 have one token, too few to detect a uniform
teacher."""


def test_a_teacher_that_fails_is_noticed_sampled_again_and_at_last_the_end(tmp_path):
    faults = ",".join(f"{step}:{fault}" for step, fault in FAULTS.items())
    run = Run(
        tmp_path,
        [
            "trainer.total_training_steps=60",
            "trainer.test_freq=-1",
            "trainer.val_before_train=false",
            "prefix_opd.rollout.timeout_seconds=20",
            "actor_rollout_ref.rollout.agent.agent_loop_manager_class=faults.sabotage.SpoiltManager",
        ],
        {TEACHER_FAULTS: faults},
    ).start()
    run.wait_for_step(max(FAULTS) + 1)
    run.kill("vLLMHttpServer")
    told = run.told()
    # 1 if it was the student's server and no rollout was under way
    assert run.process.returncode in (EXIT_FAILED, EXIT_STOPPED), told
    thrown = {line["step"]: line["prefix_opd/watch/thrown_away"] for line in read_metrics(run.outputs)}
    assert {step: thrown[step] for step in range(1, 7)} == {1: 0, 2: 1, 3: 1, 4: 1, 5: 1, 6: 0}
    # the steps claim what they learnt from: nothing of a batch that was thrown away
    for line in read_metrics(run.outputs):
        assert line["prefix_opd/watch/missing"] == 0 and line["prefix_opd/watch/not_finite"] == 0
    log = (run.outputs / "train.log").read_text()
    for step, message in {
        2: "with uninformative log-probs",
        3: "where the sequence has",
        4: "no finite log-prob",
        5: "no progress in 20 s",
    }.items():
        assert any(f"step {step}: " in line and message in line for line in log.splitlines()), f"step {step}"
    # one line says why it ended, and the next what to do
    assert "stopped: " in told and "start the same command again" in told
    assert run.left_behind() == {}


def what_counts(run):
    """Metrics of the first two steps, except the seconds of work after a checkpoint."""
    names = (*EXACT, *LEDGER, *LEARNT)
    return [{name: line[name] for name in names} for line in list(read_metrics(run.outputs))[:2]]


@pytest.fixture
def orphans_are_not_reaped():
    """This process adopts all orphans and leaves them as zombies, like process 1 of many containers."""
    become_subreaper()
    yield
    become_subreaper(False)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def test_a_run_that_is_interrupted_hurt_and_out_of_disk_goes_on_each_time(tmp_path, orphans_are_not_reaped):
    run = Run(tmp_path, ["trainer.total_training_steps=60", "trainer.test_freq=-1", "trainer.val_before_train=false"])
    run.start().wait_for_step(5)
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two in one moment would be one
    run.process.send_signal(signal.SIGINT)  # a third would meet the launcher after it has told the end, and kill it
    told = run.told()
    assert run.process.returncode == 128 + signal.SIGKILL, told
    assert "start the same command again" in told
    assert run.left_behind() == {}

    # the newest checkpoint loses a half of its optimizer, and the line of the one before it is cut
    newest = run.outputs / "global_step_4" / "actor" / OPTIMIZER
    os.truncate(newest, newest.stat().st_size // 2)
    metrics = run.outputs / "metrics.jsonl"
    before = what_counts(run)
    os.truncate(metrics, len(metrics.read_bytes().splitlines(keepends=True)[0]) + 100)
    # and a file of the checkpoint after next lies on a device that is always full
    run.fill_disk(6, OPTIMIZER)
    told = run.start().told()
    assert run.process.returncode == EXIT_STOPPED, told
    assert "global_step_4 is damaged" in told and "could not be written" in told and "free space" in told
    assert run.steps() == [1, 2, 3, 4, 5], "step 6 has no checkpoint, and its line comes after that"
    assert what_counts(run) == before, "the cut line is the checkpoint's own"

    run.free_disk(6)
    run.start().wait_for_step(7)
    run.kill("WorkerDict")
    told = run.told()
    assert run.process.returncode in (EXIT_FAILED, EXIT_STOPPED), told
    assert "start the same command again" in told
    assert run.steps() == list(range(1, run.steps()[-1] + 1)), "no step is doubled or missing"
    assert run.left_behind() == {}


@pytest.mark.slow
def test_an_engine_that_hangs_in_a_validation_ends_the_run_with_one_line(tmp_path):
    answers = ["data.val_max_samples=64", "actor_rollout_ref.rollout.val_kwargs.n=16"]  # long enough to be interrupted
    run = Run(tmp_path, ["trainer.val_before_train=true", "prefix_opd.rollout.timeout_seconds=10", *answers]).start()
    run.wait_for_milestone("engines are ready")
    time.sleep(4)  # the weights are sent
    os.kill(run.engine("student", "engine"), signal.SIGSTOP)
    told = run.told()
    assert run.process.returncode == EXIT_STOPPED, told
    stopped = next(line for line in told.splitlines() if "stopped: " in line)
    assert "step 0: the validation " in stopped and "no progress in 10 s: no rollout, no score, no token" in stopped
    assert run.steps() == [], "the run did not train"
    assert run.left_behind() == {}
