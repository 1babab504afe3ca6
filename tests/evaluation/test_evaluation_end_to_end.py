"""The real thing on the miniature: killed after its first chunk, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prefix_opd.evaluation.table import tabulate
from prefix_opd.miniature import shipped_models

PROBLEMS, K, CHUNK = 48, 2, 8
COMMAND = [
    *(sys.executable, "-m", "prefix_opd.cli", "evaluate", str(shipped_models()["student"]), "tiny"),
    *("--limit", str(PROBLEMS), "--k", str(K), "--chunk", str(CHUNK), "--out", "out"),
]


def start(folder: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen([*COMMAND, *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "parts").glob("*.parquet"))}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The output folder, the parts at the time of the kill, and the output of the second start."""
    folder = tmp_path_factory.mktemp("evaluation")
    out = folder / "out"
    first = start(folder)
    deadline = time.time() + 480  # a minute where nothing else runs
    while not parts(out):
        assert first.poll() is None and time.time() < deadline, first.communicate()
        time.sleep(0.02)
    for child in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    told = first.communicate(timeout=60)[1]
    assert first.returncode != 0 and "start the same command again" in told
    before = parts(out)
    assert 0 < len(before) < PROBLEMS // CHUNK and not (out / "results.json").exists()
    second = start(folder)
    table, told = second.communicate(timeout=480)
    assert second.returncode == 0, told
    assert f"{len(before) * CHUNK} problems are done" in told
    return out, before, table


def test_finished_chunks_are_not_asked_again(evaluated):
    out, before, _ = evaluated
    after = parts(out)
    assert len(after) == PROBLEMS // CHUNK
    assert {name: after[name] for name in before} == before


def test_no_problem_is_missing_or_doubled(evaluated):
    rows = pq.read_table(evaluated[0] / "responses.parquet").to_pylist()
    assert [(row["problem"], row["sample"]) for row in rows] == [(p, s) for p in range(PROBLEMS) for s in range(K)]
    assert all(row["graded_by"] == "tiny" for row in rows)
    # an answer may be its end token alone, which is no text
    assert all(bool(row["response"]) == (row["response_length"] > row["natural_end"]) for row in rows)
    assert all(row["prompt"].endswith("<think>") for row in rows), "the prompt's ending was not forced"
    assert all(row["cut"] == (row["response_length"] == 192 and not row["natural_end"]) for row in rows)
    assert len({row["response"] for row in rows}) > PROBLEMS, "samples of a problem are drawn apart"


def test_the_table_is_that_of_all_responses(evaluated):
    out, _, table = evaluated
    found = json.loads((out / "results.json").read_text())
    row = tabulate(pq.read_table(out / "responses.parquet").to_pylist(), K)
    assert found["benchmarks"]["tiny"] == json.loads(json.dumps(asdict(row)))
    assert f"{100 * row.mean:.1f}" in table and f"{PROBLEMS} x {K}" in table
    assert found["sampling"]["temperature"] == 1.0 and found["sampling"]["max_tokens"] == 192
    assert found["data"]["tiny"]["sha256"] and found["verl"] == "0.9.1"


def test_a_finished_evaluation_is_only_tabulated_again(evaluated):
    out, _, table = evaluated
    began = time.time()
    third = start(out.parent)
    again, told = third.communicate(timeout=120)
    assert third.returncode == 0 and again == table, told
    assert f"{PROBLEMS} problems are done" in told and (out / "train.log").stat().st_mtime < began


def test_another_sampling_in_the_same_folder_is_refused(evaluated):
    other = start(evaluated[0].parent, "--temperature", "0.7")
    told = other.communicate(timeout=120)[1]
    assert other.returncode == 2 and "contains another evaluation (temperature=1.0 there, 0.7 here)" in told
