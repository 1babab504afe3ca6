"""No step doubled, none missing, whatever happened to the last line."""

import json

import numpy as np
import pytest

from prefix_opd.runlog import RunLog, read_metrics


def steps(run):
    return [line["step"] for line in read_metrics(run)]


def test_a_line_a_step_of_finite_numbers(tmp_path):
    log = RunLog(tmp_path)
    log.log({"a": np.float32(0.5), "b": float("nan"), "c": "text", "d": 3}, step=1)
    log.finish()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "a": 0.5, "d": 3}


def test_a_resume_takes_back_what_the_checkpoint_does_not_know(tmp_path):
    log = RunLog(tmp_path)
    for step in range(5):
        log.log({"loss": step}, step)
    log.finish()
    resumed = RunLog(tmp_path, resumed_step=2)
    assert steps(tmp_path) == [0, 1, 2]
    resumed.log({"again": 1}, 2)  # a validation repeated
    resumed.log({"loss": 30}, 3)
    assert steps(tmp_path) == [0, 1, 2, 3]


def test_a_fresh_run_starts_a_fresh_log(tmp_path):
    RunLog(tmp_path).log({"loss": 1}, 1)
    RunLog(tmp_path)
    assert steps(tmp_path) == []


def test_a_torn_last_line_is_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert steps(tmp_path) == [1]
    RunLog(tmp_path, resumed_step=1).log({}, 2)
    assert steps(tmp_path) == [1, 2]


def test_a_broken_line_in_the_middle_is_told(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nbroken\n{"step": 2}\n')
    with pytest.raises(ValueError, match="no JSON: 'broken"):
        steps(tmp_path)
