"""Rows stay readable after a kill, and the later of two counts."""

import json

import pytest

from harness.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "folder" / "results.jsonl", key=lambda row: row["case"])
    store.append({"case": "a", "seconds": 1.5})
    return store


def test_rows_come_back(store):
    store.append({"case": "b"})
    assert store.read() == [{"case": "a", "seconds": 1.5}, {"case": "b"}]
    assert Store(store.path.with_name("none.jsonl"), store.key).read() == []


def test_a_failed_run_is_not_finished_and_takes_nothing_away(store):
    store.append({"case": "a", "error": "exit code 1"})
    store.append({"case": "b", "error": "exit code 1"})
    assert store.finished() == {"a": {"case": "a", "seconds": 1.5}}


def test_the_later_row_counts(store):
    store.append({"case": "a", "seconds": 2.5, "error": ""})
    assert store.finished()["a"]["seconds"] == 2.5


def test_a_torn_line_is_passed_over_and_replaced(store):
    with store.path.open("a") as file:
        file.write('{"case": "x", "sec')
    assert [row["case"] for row in store.read()] == ["a"]
    store.append({"case": "b"})
    assert [json.loads(line)["case"] for line in store.path.read_text().splitlines()] == ["a", "b"]


def test_a_broken_line_in_the_middle_is_told(store):
    store.path.write_text("{\n" + store.path.read_text())
    with pytest.raises(ValueError, match="line 1: is not JSON"):
        store.read()
