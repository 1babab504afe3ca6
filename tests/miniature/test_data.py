"""The parquet files for verl."""

from __future__ import annotations

import itertools
import re

import pyarrow.parquet as pq
import pytest

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


def test_no_question_twice(tmp_path) -> None:
    paths = write_data(tmp_path, train=4096, test=512)
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


def test_a_hint_is_a_worked_step_that_leads_to_the_question(tmp_path) -> None:
    rows = pq.read_table(write_data(tmp_path, train=200, test=4)["train_hinted"]).to_pylist()
    assert 0 < 200 - len(rows) < 30, "problems of the most steps have no hint"
    for row in rows:
        [asked], (hinted, begun) = row["prompt"], row["teacher_prompt"]
        label, term, total = re.fullmatch(r"([a-z])([+-]\d)=(\d\d);", begun["content"]).groups()
        start, *pattern = re.findall(r"[+-]?\d", asked["content"].partition(":")[0])
        assert hinted["content"][1:] == f"{term}{pattern[0]}{pattern[1]}:{label}" and term == pattern[2]
        assert int(total) == int(start) and ord(label) == ord(asked["content"][-1]) + 1
        assert hinted["content"][0] in "123456789"
