"""What is measured stays measured: resume by case, repetition and commit."""

from pathlib import Path

import pytest

from benchmarks import __main__ as benchmark
from benchmarks.__main__ import jobs, key
from benchmarks.cases import OURS, Case
from benchmarks.rows import latest
from harness.machine import CHANGED
from harness.store import Store

CASE = Case(OURS, (16,))


def _result(case=CASE, repetition=1, commit="abc", **more):
    return {"key": case.key(), "repetition": repetition, "commit": commit, **more}


def _there(row, tmp_path: Path, monkeypatch, commit="abc", case=CASE, repetitions=1):
    """Which jobs of a case at a commit have a finished row."""
    store = Store(tmp_path / "results.jsonl", key)
    store.append(row)
    monkeypatch.setattr(benchmark, "commit", lambda paths: commit)
    return [job.key in store.finished() for job in jobs([case], repetitions, 60)]


def test_the_same_run_is_there_and_another_repetition_is_not(tmp_path, monkeypatch):
    assert _there(_result(steps=[]), tmp_path, monkeypatch, repetitions=2) == [True, False]


@pytest.mark.parametrize("commit", ["def", None, f"abc{CHANGED}"])
def test_another_commit_no_commit_and_changed_files_are_measured_anew(commit, tmp_path, monkeypatch):
    assert _there(_result(commit=commit and commit.replace("def", "abc")), tmp_path, monkeypatch, commit) == [False]


def test_another_case_and_a_failed_run_are_measured(tmp_path, monkeypatch):
    assert _there(_result(), tmp_path, monkeypatch, case=Case(OURS, (32,))) == [False]
    assert _there(_result(repetition=2, error="exit code 1"), tmp_path, monkeypatch, repetitions=2) == [True, False]


def test_observed_runs_come_first(tmp_path):
    observed = Case(OURS, (16,), observed=True)
    titles = [job.title for job in jobs([CASE, observed], 2, 60)]
    assert titles == [f"{case.name}, repetition {number}" for case in (observed, CASE) for number in (1, 2)]


def test_latest_is_one_commit_and_the_last_try():
    found = latest([_result(commit="old"), _result(error="x"), _result(repetition=2), _result(n=2)])
    assert [(result["repetition"], result.get("n")) for result in found] == [(1, 2), (2, None)]
