"""The parquet files for verl."""

from __future__ import annotations

import itertools
import re

import pyarrow.parquet as pq
import pytest

from prefix_opd.miniature import TASKS
from prefix_opd.miniature.data import write_data


def test_rows(tmp_path) -> None:
    paths = write_data(tmp_path, train=8, test=4)
    rows = {split: pq.read_table(path).to_pylist() for split, path in paths.items()}
    assert [len(rows[name]) for name in ("train", "test", "train_two_sources")] == [8, 4, 8]
    assert [row["data_source"] for row in rows["train_two_sources"][:3]] == ["tiny/chain", "tiny/keep", "tiny/chain"]
    row = rows["test"][1]
    assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    assert row["data_source"] == "tiny/chain"
    [message] = row["prompt"]
    assert message["role"] == "user"
    assert row["extra_info"] == {"split": "test", "index": 1}
    # Check the answer by reading the question anew: three terms come round until the label is used up.
    terms, label = message["content"].split(":")
    start, *pattern = map(int, re.findall(r"[+-]?\d", terms))
    total = start + sum(itertools.islice(itertools.cycle(pattern), "abcdefghijklmnopqrstuvwxyz".index(label) + 1))
    assert row["reward_model"] == {"style": "rule", "ground_truth": f"{total % 100:02d}"}


@pytest.mark.parametrize("task", TASKS)
def test_no_question_twice(tmp_path, task) -> None:
    paths = write_data(tmp_path, train=4096, test=512, task=TASKS[task])
    questions = [
        row[0]["content"] for split in ("train", "test") for row in pq.read_table(paths[split])["prompt"].to_pylist()
    ]
    assert len(set(questions)) == len(questions) == 4608


def test_same_seed_same_bytes(tmp_path) -> None:
    first, second, other = (
        write_data(tmp_path / name, train=32, test=8, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    for split in ("train", "test"):
        assert first[split].read_bytes() == second[split].read_bytes()
        assert first[split].read_bytes() != other[split].read_bytes()


def test_an_interrupted_write_leaves_no_file(tmp_path, monkeypatch) -> None:
    def torn(table, path):
        path.write_bytes(b"PAR1")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", torn)
    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path, train=2, test=2)
    assert not list(tmp_path.iterdir())


def test_test_split_does_not_depend_on_the_training_size(tmp_path) -> None:
    small, large = write_data(tmp_path / "a", train=8, test=4), write_data(tmp_path / "b", train=80, test=4)
    assert pq.read_table(small["test"]) == pq.read_table(large["test"])


def test_hinted_rows_have_the_solution(tmp_path) -> None:
    paths = write_data(tmp_path, train=8, test=4)
    plain, hinted = (pq.read_table(paths[name]).to_pylist() for name in ("train", "train_hinted"))
    for row, solved in zip(plain, hinted, strict=True):
        text = solved.pop("solution")
        assert solved == row
        assert re.fullmatch(r"([a-z][+-]\d=\d\d;)+", text)
        assert text.endswith(f"={row['reward_model']['ground_truth']};")
