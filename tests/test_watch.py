"""The progress view around a child process: a stand-in writes what a run writes."""

import json
import sys

from prefix_opd.watch import cause, run_and_watch

RUN = """
import json, sys, time
folder, code = sys.argv[1], int(sys.argv[2])
print("worker group kwargs: {}", flush=True)
with open(folder + "/metrics.jsonl", "w", buffering=1) as metrics:
    for step in range(3):
        metrics.write(json.dumps({"step": step, "val-core/x/reward/mean@1": 0.5}) + "\\n")
if code:
    print("Traceback (most recent call last):")
    print("RuntimeError: the teacher is gone")
    print("and then some noise")
sys.exit(code)
"""


def test_steps_are_shown_and_the_code_comes_back(tmp_path, capfd):
    command = [sys.executable, "-c", RUN, str(tmp_path), "0"]
    assert run_and_watch(command, tmp_path, 2, {}) == 0
    told = capfd.readouterr().out
    assert "starting workers and engines" in told or "step   0" in told
    assert told.count("accuracy 50.0%") == 3


def test_a_failure_shows_its_cause_the_log_and_the_way_on(tmp_path, capfd):
    assert run_and_watch([sys.executable, "-c", RUN, str(tmp_path), "3"], tmp_path, 2, {}) == 3
    told = capfd.readouterr().out
    assert "failed with exit code 3" in told and "RuntimeError: the teacher is gone" in told
    assert "train.log" in told and "start the same command again" in told


def test_the_cause_ends_with_the_last_error(tmp_path):
    log = tmp_path / "log"
    log.write_text("old\n" * 50 + "ValueError: first\nfine\n\x1b[36mKeyError: 'last'\x1b[0m\nnoise\nmore noise\n")
    assert cause(log, 0)[-1] == "KeyError: 'last'"
    assert cause(log, 0, lines=2) == ["fine", "KeyError: 'last'"]
    assert json.dumps(cause(log, log.stat().st_size)) == "[]"
