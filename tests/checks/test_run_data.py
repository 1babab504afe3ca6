"""Data files that verl could not train or validate on: one line that names file, column and types; others pass."""

import datetime
import json
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_rows import ROWS, lines, parquet, row

from prefix_opd.base.errors import UserError
from prefix_opd.checks.run_data import TAKEN
from prefix_opd.config.keys import TRAIN_KEY, VAL_KEY

NAMES = ("output", "trace", "responses", "values", "validate", "prefix_length")
"""Columns that people have, and whose names verl or the trainer gives to a row."""


@pytest.mark.parametrize(
    ("key", "changed", "line"),
    [
        (VAL_KEY, {"reward_model": '{"ground_truth": "14"}'}, "its column 'reward_model' is string, not a group with"),
        (TRAIN_KEY, {"reward_model": '{"ground_truth": "14"}'}, "its column 'reward_model' is string, not a group"),
        (VAL_KEY, {"reward_model": {"style": "rule", "answer": "14"}}, r"lacks ground_truth \(it has style, answer\)"),
        (VAL_KEY, {"reward_model": None}, "row 0, column 'reward_model': is null"),
        (TRAIN_KEY, {"data_source": None}, "row 0, column 'data_source': is null"),
        (VAL_KEY, {"data_source": 5}, "its column 'data_source' is int64, not text"),
        (VAL_KEY, {"extra_info": '{"index": 0}'}, "its column 'extra_info' is string, not a group of values"),
        (TRAIN_KEY, {"extra_info": [1]}, "its column 'extra_info' is list<"),
        (TRAIN_KEY, {"agent_name": "tool_agent"}, "has a column 'agent_name', which verl sets itself"),
        (TRAIN_KEY, {"reward_model": "left out"}, "lacks the column 'reward_model'"),
        (
            VAL_KEY,
            {"reward_model": {"ground_truth": ["14"]}},
            "its reward_model.ground_truth is list<.*or set rew",
        ),
        (
            VAL_KEY,
            {"reward_model": {"ground_truth": {"target": "14"}}},
            "its reward_model.ground_truth is struct<targe",
        ),
        (VAL_KEY, {"extra_info": {"n_options": "4"}}, "its extra_info.n_options is string; write a whole number"),
        (TRAIN_KEY, {"images": ["a.png"]}, "has images, but models read only text here; drop the column 'images'"),
        *((TRAIN_KEY, {name: "x"}, f"has a column '{name}', which verl sets itself; rename it") for name in NAMES),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_column_of_another_type(checked, tmp_path, key, changed, line, kind):
    if kind == "parquet":
        file = parquet(tmp_path, "rows.parquet", **changed)
    else:
        file = lines(tmp_path, "rows.jsonl", [row(index, **changed) for index in range(ROWS)])
    with pytest.raises(UserError, match=line) as refused:
        checked(key, file)
    assert str(refused.value).startswith(f"{key}={file}") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "truth", "options", "line"),
    [
        ("gpqa", "c", None, "row 19, reward_model.ground_truth='c': must be a letter from A to J for multiple choice"),
        ("gpqa", "2", 4, "ground_truth='2': must be a letter from A to D"),
        ("mmlu_pro", "(C)", 4, r"ground_truth='\(C\)': must be a letter from A to D"),
        ("my_quiz", "E", 4, "ground_truth='E': must be a letter from A to D"),
        ("my_quiz", "L", 12, "row 19, extra_info.n_options=12: a question of multiple choice has 2 to 10 options"),
        ("my_quiz", "A", 1, "extra_info.n_options=1: a question"),
        ("my_quiz", "A", -1, "extra_info.n_options=-1: a question"),
        ("my_quiz", "D", 4, None),
        ("gpqa", " J", None, None),
        ("gpqa", None, 4, None),
        ("my_maths", "c", 0, None),
    ],
)
def test_the_truth_of_a_choice_is_one_of_its_letters(checked, tmp_path, source, truth, options, line):
    rows = [row(index, data_source="gpqa", reward_model={"ground_truth": "B"}) for index in range(ROWS - 1)]
    rows.append(row(data_source=source, reward_model={"ground_truth": truth}, extra_info={"n_options": options}))
    file = lines(tmp_path, "rows.jsonl", rows)
    assert checked(TRAIN_KEY, file) == ROWS  # a training rollout is not graded
    if line is None:
        assert checked(VAL_KEY, file) == ROWS
        return
    with pytest.raises(UserError, match=line) as refused:
        checked(VAL_KEY, file)
    assert str(refused.value).startswith(f"{VAL_KEY}={file}: row 19, ")


RAYS = "_ray_trace_ctx"
"""Ray gives methods of an actor this argument."""


def test_every_name_that_verl_gives_to_a_row_is_taken():
    """Columns become arguments of verl's agent loop, and replace fields of the rollout that have their names."""
    import inspect

    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

    from prefix_opd.verl_plugin import fields
    from prefix_opd.verl_plugin.worker.agent_loop import ATTEMPT, PrefixAgentLoopWorker, _AgentLoopWorker

    of_loop = (_AgentLoopWorker._run_agent_loop, PrefixAgentLoopWorker._agent_loop_postprocess)
    given = {name for function in of_loop for name in inspect.signature(function).parameters} - {"kwargs", RAYS}
    numbers = {"prompt_ids": [1], "response_ids": [1], "response_mask": [1], "response_logprobs": [0.0]}
    more = dict.fromkeys(("reward_score", "num_turns"), 0) | {"multi_modal_data": {}, "routed_experts": [[0], [0]]}
    scored = {"teacher_ids": 1, "teacher_logprobs": 1, "more": 1}
    rollout = AgentLoopOutput(**numbers, **more, metrics=AgentLoopMetrics(), extra_fields=scored)
    own = {fields.PREFIX_LENGTH, fields.COPY, fields.PROBE_SEED, ATTEMPT}
    assert {*given, *rollout.as_dict(), *own} <= set(TAKEN)


def test_a_column_that_occurs_twice_and_one_that_datasets_does_not_read(checked, tmp_path):
    table = pa.Table.from_pylist([row(index) for index in range(ROWS)])
    twice, mapped = str(tmp_path / "twice.parquet"), str(tmp_path / "mapped.parquet")
    pq.write_table(pa.table([table["ability"], *table.columns], names=["ability", *table.column_names]), twice)
    maps = pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int64()))
    pq.write_table(table.append_column("options", maps), mapped)
    for file, line in {twice: "has several columns 'ability'; rename", mapped: "its column 'options' is map<"}.items():
        with pytest.raises(UserError, match=line):
            checked(TRAIN_KEY, file)


@pytest.mark.parametrize("name", ["rows[1].parquet", "rows*.parquet", "row?.parquet", "a::b.parquet"])
def test_a_path_that_is_a_pattern_to_datasets_is_refused(checked, tmp_path, name):
    """``datasets`` finds no rows[1].parquet, and reads all files that rows*.parquet fits."""
    with pytest.raises(UserError, match="in its path, which datasets reads as a pattern; rename the file or folder"):
        checked(VAL_KEY, parquet(tmp_path, name))


@pytest.mark.parametrize(
    ("truth", "kind"),
    [
        (datetime.date(2024, 1, 5), "date32[day]"),
        (Decimal("1.5"), "decimal128(2, 1)"),
        (b"14", "binary"),
        ({"until": datetime.date(2024, 1, 5)}, "struct<until: date32[day]>"),
    ],
)
def test_a_true_answer_that_json_does_not_hold_is_refused(checked, tmp_path, truth, kind):
    """verl writes the true answers of a validation into a file of JSON, whoever grades them."""
    file = parquet(tmp_path, "rows.parquet", reward_model={"style": "rule", "ground_truth": truth})
    with pytest.raises(UserError) as refused:
        checked(VAL_KEY, file)
    assert f"its reward_model.ground_truth is {kind}, which verl does not write beside the answers" in str(
        refused.value
    )
    assert checked(TRAIN_KEY, file) == ROWS  # a prefix is not graded


def test_types_of_another_version_of_datasets_are_refused(checked, tmp_path):
    features = {"info": {"features": {"prompt": {"_type": "TypeOfLater"}}}}
    table = pa.Table.from_pylist([row(index) for index in range(ROWS)])
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="datasets does not read the types that its metadata names .*TypeOfLater"):
        checked(TRAIN_KEY, str(tmp_path / "rows.parquet"))


def test_what_verl_reads_passes(checked, tmp_path):
    """A categorical column, empty images, and a text with a line separator of Unicode."""
    table = pa.Table.from_pylist([row(index) for index in range(ROWS)])
    table = table.set_column(0, "data_source", table["data_source"].dictionary_encode())
    pq.write_table(table.append_column("images", pa.array([[]] * ROWS, pa.list_(pa.string()))), tmp_path / "a.parquet")
    text = json.dumps(row(prompt=[{"role": "user", "content": "5\u20287"}]), ensure_ascii=False) + "\r\n"
    (tmp_path / "b.jsonl").write_text(text * ROWS, encoding="utf-8", newline="")
    for name in ("a.parquet", "b.jsonl"):
        assert checked(VAL_KEY, str(tmp_path / name)) == ROWS


def test_columns_that_may_be_absent(checked, tmp_path):
    assert checked(TRAIN_KEY, parquet(tmp_path, "a.parquet", extra_info="left out")) == ROWS
    # a training prompt needs no true answer: a prefix is not graded
    assert checked(TRAIN_KEY, parquet(tmp_path, "b.parquet", reward_model={"style": "none"})) == ROWS


def test_files_that_cannot_be_put_together_are_named_with_the_column_and_its_types(checked, tmp_path):
    first = parquet(tmp_path, "text.parquet")
    second = parquet(tmp_path, "number.parquet", reward_model={"style": "rule", "ground_truth": 14})
    with pytest.raises(UserError) as refused:
        checked(VAL_KEY, [first, second])
    told = str(refused.value)
    assert told.startswith(f"{VAL_KEY}={second}: cannot be put together with {first}: its column 'reward_model' is ")
    assert "ground_truth: int64" in told and "ground_truth: string" in told


TOGETHER = {
    "plain": {},
    "other_source": {"data_source": "my_maths"},
    "absent": {"extra_info": "left out"},
    "empty": {"extra_info": None},
    "text_index": {"extra_info": {"split": "test", "index": "a"}},
    "number": {"reward_model": {"style": "rule", "ground_truth": 14}},
}


@pytest.mark.parametrize(
    ("names", "apart"),
    [
        (["plain", "other_source", "absent", "plain"], None),
        (["plain", "empty", "plain"], None),
        (["empty", "plain"], ("empty", "plain")),  # datasets takes nulls after groups, and no groups after nulls
        (["plain", "number"], ("plain", "number")),
        (["absent", "plain", "text_index"], ("plain", "text_index")),  # the first file has no such column
        (["absent", "empty", "absent", "empty"], None),
    ],
)
def test_verl_puts_together_what_is_accepted_and_not_what_is_refused(checked, tmp_path, names, apart):
    """The check follows ``datasets``, which verl calls (verl/utils/dataset/rl_dataset.py)."""
    import datasets

    files = [parquet(tmp_path, f"{number}_{name}.parquet", **TOGETHER[name]) for number, name in enumerate(names)]
    loaded = [
        datasets.load_dataset("parquet", data_files=file, cache_dir=str(tmp_path / "cache"))["train"] for file in files
    ]
    if apart is None:
        assert checked(VAL_KEY, files) == checked(TRAIN_KEY, files) == len(files) * ROWS
        assert len(datasets.concatenate_datasets(loaded)) == len(files) * ROWS
        return
    before, other = (files[names.index(name)] for name in apart)
    with pytest.raises(UserError, match=f"{other}: cannot be put together with {before}: its column "):
        checked(VAL_KEY, files)
    with pytest.raises((ValueError, AttributeError)):
        datasets.concatenate_datasets(loaded)
