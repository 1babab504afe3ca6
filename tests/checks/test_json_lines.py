"""Data files of JSON: read as ``datasets`` reads them, or one line that says why not."""

import copy
import json

import pytest
from data_rows import ROWS, lines, row

from prefix_opd.base.errors import UserError
from prefix_opd.checks import json_lines
from prefix_opd.checks.run_data import conversations
from prefix_opd.config.keys import TRAIN_KEY, VAL_KEY


def test_texts_that_look_like_dates_only_now_and_then_stay_text(checked, tmp_path):
    """As in ``datasets``, whose types are those of all rows."""
    import datasets

    truths = ["2024-01-05", "7"] * ROWS
    file = lines(tmp_path, "rows.jsonl", [row(reward_model={"ground_truth": truth}) for truth in truths])
    assert checked(VAL_KEY, file) == len(truths)
    loaded = datasets.load_dataset("json", data_files=file, cache_dir=str(tmp_path / "cache"))["train"]
    assert [one["ground_truth"] for one in loaded["reward_model"]] == truths


def test_a_byte_order_mark_and_an_array_are_read_as_verl_reads_them(composed, checked, tmp_path):
    rows = [row(index) for index in range(ROWS)]
    (tmp_path / "bom.jsonl").write_text("\ufeff" + "".join(json.dumps(one) + "\n" for one in rows))
    (tmp_path / "array.json").write_text(json.dumps(rows))
    for name in ("bom.jsonl", "array.json"):
        assert checked(TRAIN_KEY, str(tmp_path / name)) == ROWS
        config = copy.deepcopy(composed)
        config.data.train_files = str(tmp_path / name)
        assert conversations(config, TRAIN_KEY) == [one["prompt"] for one in rows]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.json", "[1, 2]", "row 0 is not a JSON object"),
        ("a.json", "[", "line 1 is not JSON"),
        ("a.csv", "a,b", r"has none of the endings that verl reads: .parquet, .json, .jsonl"),
        ("a.jsonl", json.dumps(row()) + "\n" + json.dumps(row(prompt="5+7")), "must be a list of role and content"),
        ("a.jsonl", json.dumps(row()) + "\n" + json.dumps(row(ability=5)), "column 'ability' holds values of several"),
        ("a.jsonl", '{"a": 1}\n{"a": {"b": 1, "b": 2}}', "line 2 has the key 'b' twice; leave one of them out"),
        ("a.json", '[{"a": 1, "a": 1}]', "an object has the key 'a' twice"),
        (
            "a.jsonl",
            json.dumps(row(reward_model={"ground_truth": "2024-01-05"})),
            "the texts of its column 'reward_model' look like dates, and datasets reads them as such; write",
        ),
        ("a.json", json.dumps([row(made="2024-01-05")]), "the texts of its column 'made' look like dates"),
    ],
)
def test_other_files(checked, tmp_path, name, text, line):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=line):
        checked(TRAIN_KEY, str(tmp_path / name))


@pytest.mark.parametrize(
    ("first", "later", "read"),
    [
        ({"col": "x"}, {"col": "y"}, True),
        ({"col": 1.5}, {"col": 1}, True),
        ({"col": 1}, {"col": 1.5}, False),
        ({"col": "x"}, {}, True),
        ({}, {"col": "x"}, False),
        ({"col": None}, {"col": "x"}, False),
        ({"col": {"a": 1}}, {"col": {"a": 1, "b": "x"}}, False),
        ({"col": {"a": 1, "b": "x"}}, {"col": {"b": "x"}}, True),
    ],
)
def test_rows_after_the_first_part_have_the_types_of_the_first(checked, tmp_path, monkeypatch, first, later, read):
    """``datasets`` reads 10 MiB at once, and casts later parts to the types of the first."""
    import datasets

    rows = [row(index, **(first if index < ROWS - 1 else later)) for index in range(ROWS)]
    file = lines(tmp_path, "rows.jsonl", rows)
    part = len("".join(json.dumps(one) + "\n" for one in rows[:-1])) - 5  # ends in the last line but one

    def load():
        return datasets.load_dataset(
            "json", data_files=file, cache_dir=str(tmp_path / "cache"), chunksize=part, split="train"
        )

    monkeypatch.setattr(json_lines, "CHUNK", part)
    if read:
        assert checked(TRAIN_KEY, file) == len(load()) == ROWS
        return
    with pytest.raises(UserError, match="the rows after its first 10 MiB have other columns or types, and datasets"):
        checked(TRAIN_KEY, file)
    with pytest.raises(datasets.exceptions.DatasetGenerationError):
        load()
