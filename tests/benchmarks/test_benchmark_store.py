"""What is measured stays measured: resume by case, repetition and commit."""

import json

import pytest

from benchmarks.cases import Case
from benchmarks.machine import CHANGED
from benchmarks.store import Store, latest

CASE = Case("ours", (16,))


def _result(case=CASE, repetition=1, commit="abc", **more):
    return {"key": case.key(), "repetition": repetition, "commit": commit, **more}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "folder" / "results.jsonl")
    store.append(_result(steps=[]))
    return store


def test_the_same_run_is_known(store):
    assert store.has(CASE, 1, "abc")


@pytest.mark.parametrize(
    "case, repetition, commit",
    [
        (Case("ours", (32,)), 1, "abc"),
        (CASE, 2, "abc"),
        (CASE, 1, "def"),
        (CASE, 1, None),
    ],
)
def test_another_run_is_not(store, case, repetition, commit):
    assert not store.has(case, repetition, commit)


def test_changed_files_are_measured_anew(store):
    store.append(_result(commit="abc" + CHANGED, steps=[]))
    assert not store.has(CASE, 1, "abc" + CHANGED)


def test_a_failed_run_is_tried_again(store):
    store.append(_result(repetition=2, error="exit code 1"))
    assert not store.has(CASE, 2, "abc")


def test_a_half_written_line_is_passed_over_and_replaced(store):
    with store.path.open("a") as file:
        file.write('{"key": "x", "repe')
    assert [result["repetition"] for result in store.read()] == [1]
    store.append(_result(repetition=2))
    assert [json.loads(line)["repetition"] for line in store.path.read_text().splitlines()] == [1, 2]


def test_a_broken_line_in_the_middle_is_told(store):
    store.path.write_text("{\n" + store.path.read_text())
    with pytest.raises(ValueError, match="line 1"):
        store.read()


def test_latest_is_one_commit_and_the_last_try():
    found = latest([_result(commit="old"), _result(error="x"), _result(repetition=2), _result(n=2)])
    assert [(result["repetition"], result.get("n")) for result in found] == [(1, 2), (2, None)]
