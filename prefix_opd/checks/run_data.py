"""The data files of a run: their paths, their conversations, and whether verl can train on them.

A UserError names the file, and the row or the column with its type.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.keys import TRAIN_KEY, VAL_KEY
from prefix_opd.config.teachers import ROUTED_BY

LINES = (".json", ".jsonl")
"""Files with one JSON object per line, or with one JSON array of objects."""
KINDS = (".parquet", *LINES)
TAKEN = ("agent_name", "raw_prompt", "uid", "global_steps", "session_id", "index", "dummy_tensor")
"""Columns that verl adds to each row, or that select an agent loop."""
SEE = "see `prefix-opd prepare --help`, or docs/smollm2.md for smollm2"

Conversation = list[dict[str, Any]]


def data_files(config: DictConfig, key: str) -> list[Path]:
    """The files of a config key. Raises UserError if the list is empty or a file does not exist."""
    named = OmegaConf.select(config, key)
    if named is None:
        raise UserError(key, "is not set", f"add {key}=FILE.parquet, {SEE}")
    names = list(named) if isinstance(named, ListConfig) else [named]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{key}={named}", "must be a file or a list of files", f"use {key}=FILE.parquet, {SEE}")
    paths = [Path(name).expanduser() for name in names]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{key}={path}", "does not exist", SEE)
        if path.suffix not in KINDS:
            raise UserError(f"{key}={path}", f"has none of the endings that verl reads: {', '.join(KINDS)}", SEE)
    return paths


def check_data(config: DictConfig, key: str) -> int:
    """Check every row, because verl would fail on a bad one only after minutes. Returns the number of rows."""
    paths, needed = data_files(config, key), [config.data.prompt_key, ROUTED_BY, "reward_model"]
    rows, schemas = 0, []
    for path in paths:
        what = f"{key}={path}"
        rows += check_rows(what, read_rows(what, path, needed), needed)
        schemas.append(_schema(what, path))
    for path, schema in zip(paths, schemas, strict=True):
        check_columns(f"{key}={path}", schema, validated=key == VAL_KEY)
        _check_alike(key, (paths[0], path), (schemas[0], schema))
    if key == TRAIN_KEY and rows < (batch := config.data.train_batch_size):
        raise UserError(f"data.train_batch_size={batch}", f"exceeds the {rows} rows of {key}")
    return rows


def conversations(config: DictConfig, key: str) -> list[Conversation]:
    """The conversations of all rows, checked by `check_data`."""
    check_data(config, key)
    return _column(config, key, config.data.prompt_key)


def sources(config: DictConfig) -> Counter[str]:
    """``data_source`` of the training rows -> number of rows."""
    return Counter(map(str, _column(config, TRAIN_KEY, ROUTED_BY)))


def _column(config: DictConfig, key: str, name: str) -> list[Any]:
    return [row[name] for path in data_files(config, key) for row in read_rows(f"{key}={path}", path, [name])]


def read_rows(what: str, path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Every row with these columns, null where a line lacks one. Raises UserError if the whole file lacks one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix in LINES:
        rows = _read_lines(what, path)
        if rows:
            _check_names(what, columns, [name for row in rows for name in row])
        yield from ({name: row.get(name) for name in columns} for row in rows)
        return
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError):
        raise UserError(what, "is not a parquet file", SEE) from None
    _check_names(what, columns, file.schema_arrow.names)
    try:
        for batch in file.iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError):
        raise UserError(what, f"one of its columns {', '.join(columns)} cannot be read", SEE) from None


def _check_names(what: str, needed: list[str], names: list[str]) -> None:
    if missing := next((name for name in needed if name not in names), None):
        raise UserError(what, f"lacks the column {missing!r} (it has {', '.join(map(str, dict.fromkeys(names)))})")


def check_rows(what: str, rows: Iterable[dict[str, Any]], needed: list[str]) -> int:
    """Check that no needed column is null and that the first one holds text conversations. Returns their number."""
    number = -1
    for number, row in enumerate(rows):
        for name in needed:
            if row[name] is None:
                raise UserError(what, f"row {number}, column {name!r}: is null")
        if problem := problem_of(row[needed[0]]):
            raise UserError(what, f"row {number}, column {needed[0]!r}: {problem}")
    if number < 0:
        raise UserError(what, "has no rows")
    return number + 1


def _read_lines(what: str, path: Path) -> list[dict[str, Any]]:
    number = 1
    try:
        text = path.read_text(encoding="utf-8-sig")  # drops a byte order mark
        if text.lstrip().startswith("["):
            unit, rows = "row", dict(enumerate(json.loads(text)))
        else:
            unit, rows = "line", {}
            for number, line in enumerate(text.splitlines(), 1):
                if line.strip():
                    rows[number] = json.loads(line)
    except UnicodeDecodeError:
        raise UserError(what, "is not text in UTF-8") from None
    except (ValueError, RecursionError):
        raise UserError(what, f"line {number} is no JSON") from None
    for number, row in rows.items():
        if not isinstance(row, dict):
            raise UserError(what, f"{unit} {number} is not a JSON object")
    return list(rows.values())


def _schema(what: str, path: Path):
    """The columns and their types. Raises UserError if the types in a column conflict."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix not in LINES:
        return pq.read_schema(path)
    rows = _read_lines(what, path)
    columns = []
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            kind = pa.array([row.get(name) for row in rows]).type
        except (pa.ArrowException, OverflowError, UnicodeEncodeError, ValueError) as error:
            raise UserError(what, f"column {name!r} holds values of several types ({str(error)[:120]})") from None
        columns.append(pa.field(name, kind))
    return pa.schema(columns)


def check_columns(what: str, schema, validated: bool) -> None:
    """Check the columns that verl and the grader read."""
    import pyarrow as pa

    kinds = {field.name: field.type for field in schema}
    source, reward, extra = (kinds.get(name) for name in (ROUTED_BY, "reward_model", "extra_info"))
    if not (pa.types.is_string(source) or pa.types.is_large_string(source)):
        raise UserError(what, f"its column {ROUTED_BY!r} is {source}, not text")
    if not pa.types.is_struct(reward):
        rule = f"its column 'reward_model' is {reward}, not a group with ground_truth"
        raise UserError(what, rule, 'write {"style": "rule", "ground_truth": ANSWER} in each row, not as text')
    if validated and "ground_truth" not in (fields := [field.name for field in reward]):
        rule = f"its column 'reward_model' lacks ground_truth (it has {', '.join(fields)})"
        raise UserError(what, rule, "rename the answer's")
    if not (extra is None or pa.types.is_struct(extra) or pa.types.is_null(extra)):
        raise UserError(what, f"its column 'extra_info' is {extra}, not a group of values", "leave the column out")
    if taken := next((name for name in TAKEN if name in kinds), None):
        raise UserError(what, f"has a column {taken!r}, which verl sets itself", "rename it")


def _check_alike(key: str, paths: tuple[Path, Path], schemas: tuple) -> None:
    """verl joins the files of one key by ``datasets.concatenate_datasets``, which requires equal types."""
    if paths[0] == paths[1]:
        return
    import datasets
    from datasets.features.features import _check_if_features_can_be_aligned

    features = [datasets.Features.from_arrow_schema(schema) for schema in schemas]
    for name in features[0].keys() & features[1].keys():
        try:
            _check_if_features_can_be_aligned([datasets.Features({name: one[name]}) for one in features])
        except ValueError:
            first, other = (schema.field(name).type for schema in schemas)
            rule = f"cannot be put together with {paths[0]}: its column {name!r} is {other}, there {first}"
            raise UserError(f"{key}={paths[1]}", rule, "write both with the same types") from None


def problem_of(messages: Any) -> str:
    """Why a cell is not a conversation; empty if it is one."""
    if not isinstance(messages, list):
        return f"must be a list of role and content, not {type(messages).__name__}"
    if not messages:
        return "must be a list of role and content, with at least one message"
    for message in messages:
        if not isinstance(message, dict):
            return f"must be a list of role and content, not of {type(message).__name__}"
        for part in ("role", "content"):
            if not isinstance(message.get(part), str):
                return f"its {part} must be text, not {type(message.get(part)).__name__}"
    return ""
