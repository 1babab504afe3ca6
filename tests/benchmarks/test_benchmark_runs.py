"""Runs as the benchmark reads them, without verl: logs become steps."""

import importlib
import json
import subprocess
import sys
import threading

import pytest
from transformers import AutoTokenizer

from benchmarks.cases import OURS, Case
from benchmarks.prompts import TRAIN, write_prompts
from benchmarks.steps import CLOCK, GATE
from benchmarks.trl_run import trl_releases
from benchmarks.verl_run import read_steps
from prefix_opd.miniature import shipped_models

CASE = Case(OURS, (16,), warm=1, measured=1)


def _log(tmp_path, *steps):
    log = tmp_path / "steps.jsonl"
    log.write_text("".join(json.dumps({"step": i, "data": data}) + "\n" for i, data in enumerate(steps, start=1)))
    return log


def _data(**more):
    data = {"timing_s/step": 2.0, "timing_s/gen": 1.0, "timing_s/update_actor": 0.75}
    return {**data, "response_length/mean": 16.0, "prompt_length/mean": 18.0, **more}


def test_a_step_lasts_from_the_end_of_the_one_before(tmp_path):
    log = _log(tmp_path, _data(**{CLOCK: 100.0}), _data(**{CLOCK: 102.5}))
    first, second = read_steps(CASE, shipped_models(), log)
    assert (first["counts"], second["counts"], second["tokens"]) == (False, True, 1024)
    assert (first["seconds"], second["seconds"]) == (2.0, 2.5)
    # verl's timer of the step ends 0.5 s before the step does
    assert second["phases"]["rest"] == pytest.approx(0.75)


def test_an_observed_run_has_verls_timers_alone(tmp_path):
    observed = Case(OURS, (16,), warm=1, measured=1, observed=True)
    steps = read_steps(observed, shipped_models(), _log(tmp_path, _data(), _data()))
    assert [(step["seconds"], step["counts"]) for step in steps] == [(2.0, False), (2.0, False)]


def test_a_response_shorter_than_the_cap_is_no_measurement(tmp_path):
    log = _log(tmp_path, *(_data(**{CLOCK: 1.0, "response_length/mean": 15.5}) for _ in range(2)))
    with pytest.raises(ValueError, match="992 response tokens, not 64 x 16"):
        read_steps(CASE, shipped_models(), log)


def test_a_response_that_ends_by_itself_is_a_measurement(tmp_path):
    natural = Case(OURS, (16,), warm=1, measured=1, natural=True)
    log = _log(tmp_path, *(_data(**{CLOCK: 1.0, "response_length/mean": 15.5}) for _ in range(2)))
    assert [step["tokens"] for step in read_steps(natural, shipped_models(), log)] == [992, 992]


def test_prompts_of_any_length(tmp_path):
    import pyarrow.parquet as pq

    shown = []
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        write_prompts((20, 400), tmp_path / name, count=64)
        shown.append([row["prompt"][0]["content"] for row in pq.read_table(tmp_path / name / TRAIN).to_pylist()])
    lengths = [len(message) for message in shown[0]]
    assert shown[0] == shown[1] and len(set(shown[0])) == 64
    assert min(lengths) < 60 and max(lengths) > 360 and all(20 <= length <= 400 for length in lengths)
    tokenizer = AutoTokenizer.from_pretrained(shipped_models()["student"])
    assert [len(tokenizer(message)["input_ids"]) for message in shown[0]] == lengths


def test_verls_file_logger_gets_the_clock(tmp_path, monkeypatch):
    from verl.utils import tracking

    monkeypatch.setattr(tracking, "FileLogger", tracking.FileLogger)
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "steps.jsonl"))
    import benchmarks.clock

    importlib.reload(benchmarks.clock)  # another test may have imported it before verl's logger was put back

    tracker = tracking.Tracking("project", "experiment", ["file"], config={})
    for step in (1, 2):
        tracker.log({"loss": 0.5}, step)
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [(line["step"], line["data"]["loss"]) for line in lines] == [(1, 0.5), (2, 0.5)]
    assert 0 <= lines[1]["data"][CLOCK] - lines[0]["data"][CLOCK] < 5


def test_nothing_that_starts_threads_is_imported_before_the_warm_up():
    heavy = "{'numpy', 'pyarrow', 'ray', 'torch', 'transformers', 'verl', 'vllm'}"
    program = f"import sys, benchmarks.__main__; print({heavy} & {{name.split('.')[0] for name in sys.modules}})"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"


def test_releases_are_those_of_trls_own_environment(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name, release in (("trl", "1.2"), ("transformers", "9.0"), ("torch", "3.1"), ("numpy", "2.0")):
        folder = packages / f"{name}-{release}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")
    assert trl_releases(tmp_path) == {"python": "3.11", "trl": "1.2", "transformers": "9.0", "torch": "3.1"}


def test_a_run_with_a_gate_waits_for_it_before_its_first_step(tmp_path, monkeypatch):
    from verl.utils import tracking

    monkeypatch.setattr(tracking, "FileLogger", tracking.FileLogger)
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "steps.jsonl"))
    import benchmarks.clock

    importlib.reload(benchmarks.clock)
    gate = tmp_path / "go"
    monkeypatch.setenv(GATE, str(gate))
    waiting = threading.Thread(target=tracking.FileLogger, args=("project", "experiment"), daemon=True)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive(), "it did not wait"
    gate.touch()
    waiting.join(10)
    assert not waiting.is_alive()
