"""No step doubled, none missing, whatever happened to the last line."""

import json

import numpy as np
import pytest

from prefix_opd.run.log import Forgiving, RunLog, read_metrics


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


def test_a_line_that_is_written_while_it_is_read_is_passed_over(tmp_path):
    """The next read sees the complete line."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step"')
    lines = read_metrics(tmp_path)
    assert next(lines) == {"step": 1}
    decode = json.loads

    def slow(text):
        with path.open("a") as writer:
            writer.write(': 2, "loss": 0.5}\n')
        return decode(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json, "loads", slow)
        assert list(lines) == []
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_a_broken_line_in_the_middle_is_told(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nbroken\n{"step": 2}\n')
    with pytest.raises(ValueError, match="is not JSON: 'broken"):
        steps(tmp_path)


def test_the_step_of_a_checkpoint_whose_line_was_never_written_is_put_in(tmp_path):
    RunLog(tmp_path).log({"loss": 1}, 1)
    resumed = RunLog(tmp_path, resumed_step=2, recovered={"loss": 2.0, "text": "no number"})
    assert list(read_metrics(tmp_path)) == [{"step": 1, "loss": 1}, {"step": 2, "loss": 2.0}]
    resumed.log({"loss": 3}, 3)
    assert steps(tmp_path) == [1, 2, 3]


def test_a_line_that_was_written_is_not_replaced_by_the_checkpoints(tmp_path):
    RunLog(tmp_path).log({"loss": 1, "seconds": 7}, 1)
    RunLog(tmp_path, resumed_step=1, recovered={"loss": 1})
    assert list(read_metrics(tmp_path)) == [{"step": 1, "loss": 1, "seconds": 7}]


def test_a_validation_that_was_cut_off_joins_the_line_of_its_step(tmp_path):
    resumed = RunLog(tmp_path, resumed_step=2, recovered={"loss": 2.0}, validation_due=True)
    resumed.log({"accuracy": 0.5}, 2)
    resumed.log({"loss": 3.0}, 3)
    assert list(read_metrics(tmp_path)) == [{"step": 2, "loss": 2.0, "accuracy": 0.5}, {"step": 3, "loss": 3.0}]


def test_a_line_that_waits_in_vain_is_written_before_the_next(tmp_path):
    resumed = RunLog(tmp_path, resumed_step=2, recovered={"loss": 2.0}, validation_due=True)
    resumed.log({"loss": 3.0}, 3)
    assert steps(tmp_path) == [2, 3]


def test_a_tracker_that_cannot_be_reached_does_not_end_the_run(caplog):
    caplog.set_level("WARNING", logger="prefix_opd")

    class Unreachable:
        url = "http://tracker"

        def log(self, data, step):
            raise ConnectionError("no route to host")

    tracker = Forgiving("mlflow", Unreachable())
    tracker.log({"loss": 1}, 3)
    tracker.log(data={"loss": 1}, step=4)
    assert caplog.text.count("mlflow failed at step 3 (no route to host)") == 1
    assert "step 4" not in caplog.text and tracker.url == "http://tracker"
    tracker.finish(exit_code=0)
    assert "mlflow could not be closed" in caplog.text


def test_steps_that_are_gone_are_told(tmp_path, caplog):
    caplog.set_level("WARNING", logger="prefix_opd")
    log = RunLog(tmp_path)
    for step in (0, 1, 4):
        log.log({"loss": step}, step)
    RunLog(tmp_path, resumed_step=4)
    assert "has no metrics for 2 of the 4 steps before this start, the first of them step 2" in caplog.text
    caplog.clear()
    RunLog(tmp_path, resumed_step=1)
    assert not caplog.text
