"""The data files of a run: their paths, their conversations, and whether verl can train on them."""

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
            raise UserError(f"{key}={path}", f"is no file that verl reads by its name: {', '.join(KINDS)}", SEE)
    return paths


def check_data(config: DictConfig, key: str) -> int:
    """Check every row, because verl would fail on a bad one only after minutes. Returns the number of rows.

    Raises:
        UserError: names the file, and the bad row if there is one.
    """
    paths = data_files(config, key)
    rows = sum(_check_file(f"{key}={path}", path, config.data) for path in paths)
    schemas = [_schema(f"{key}={path}", path) for path in paths]
    for path, schema in zip(paths, schemas, strict=True):
        check_columns(f"{key}={path}", schema, validated=key == VAL_KEY)
    _check_alike(key, paths, schemas)
    if key == TRAIN_KEY and rows < config.data.train_batch_size:
        raise UserError(
            f"data.train_batch_size={config.data.train_batch_size}", f"exceeds the {rows} rows of data.train_files"
        )
    return rows


def conversations(config: DictConfig, key: str) -> list[Conversation]:
    """The conversations of all rows. The files must have passed `check_data`."""
    check_data(config, key)
    return _column(config, key, config.data.prompt_key)


def sources(config: DictConfig) -> Counter[str]:
    """``data_source`` of the training rows -> number of rows."""
    return Counter(map(str, _column(config, TRAIN_KEY, ROUTED_BY)))


def _column(config: DictConfig, key: str, name: str) -> list[Any]:
    return [row[name] for path in data_files(config, key) for row in read_rows(path, [name])]


def read_rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """These columns of every row. Raises UserError if a column is missing."""
    if path.suffix in LINES:
        yield from _read_lines(str(path), path)
        return
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    for name in columns:
        if name not in file.schema_arrow.names:
            raise UserError(str(path), f"has no column {name!r} (it has {', '.join(file.schema_arrow.names)})")
    for batch in file.iter_batches(columns=columns):
        yield from batch.to_pylist()


def _check_file(what: str, path: Path, data: DictConfig) -> int:
    needed = (data.prompt_key, "data_source", "reward_model")
    if path.suffix not in LINES:
        return _check_parquet(what, path, needed)
    rows = _read_lines(what, path)
    for number, row in enumerate(rows):
        for name in needed:
            if name not in row:
                raise UserError(what, f"row {number} lacks verl's column {name!r} (it has {', '.join(map(str, row))})")
            if row[name] is None:
                raise UserError(what, f"row {number}, column {name!r}: is null")
        if problem := problem_of(row[data.prompt_key]):
            raise UserError(what, f"row {number}, column {data.prompt_key!r}: {problem}")
    if not rows:
        raise UserError(what, "has no rows")
    return len(rows)


def _read_lines(what: str, path: Path) -> list[dict[str, Any]]:
    number, rows = 1, []
    try:
        text = path.read_text(encoding="utf-8-sig")  # drops a byte order mark
        if text.lstrip().startswith("["):
            rows = json.loads(text)
            wrong = next((row for row, found in enumerate(rows) if not isinstance(found, dict)), None)
            if wrong is not None:
                raise UserError(what, f"row {wrong} is no JSON object")
            return rows
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                rows.append(json.loads(line))
                if not isinstance(rows[-1], dict):
                    raise UserError(what, f"line {number} is no JSON object")
    except UserError:
        raise
    except UnicodeDecodeError:
        raise UserError(what, "is no text in UTF-8") from None
    except (ValueError, RecursionError):
        raise UserError(what, f"line {number} is no JSON") from None
    return rows


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
    """Check the columns that verl and the grader read. Raises UserError that names the column and its type."""
    import pyarrow as pa

    def kind(name: str):
        return schema.field(name).type if name in schema.names else None

    if not _is_text(kind("data_source")):
        raise UserError(what, f"its column 'data_source' is {kind('data_source')}, not text")
    reward = kind("reward_model")
    if not pa.types.is_struct(reward):
        raise UserError(
            what,
            f"its column 'reward_model' is {reward}, not a group with ground_truth",
            'write {"style": "rule", "ground_truth": ANSWER} in each row, not as text',
        )
    fields = [field.name for field in reward]
    if validated and "ground_truth" not in fields:
        raise UserError(
            what, f"its column 'reward_model' lacks ground_truth (it has {', '.join(fields)})", "rename the answer's"
        )
    extra = kind("extra_info")
    if extra is not None and not pa.types.is_struct(extra) and not pa.types.is_null(extra):
        raise UserError(what, f"its column 'extra_info' is {extra}, not a group of values", "leave the column out")
    if taken := next((name for name in TAKEN if name in schema.names), None):
        raise UserError(what, f"has a column {taken!r}, which verl sets itself", "rename it")


def _is_text(kind) -> bool:
    import pyarrow as pa

    return kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_alike(key: str, paths: list[Path], schemas: list) -> None:
    """verl joins the files of one key by ``datasets.concatenate_datasets``, which requires equal types.

    Raises:
        UserError: names two files, the column, and its type in each.
    """
    if len(paths) == 1:
        return
    import datasets
    from datasets.features.features import _check_if_features_can_be_aligned

    features = [datasets.Features.from_arrow_schema(schema) for schema in schemas]
    for path, other in zip(paths[1:], features[1:], strict=True):
        for name in features[0].keys() & other.keys():
            try:
                _check_if_features_can_be_aligned(
                    [datasets.Features({name: one[name]}) for one in (features[0], other)]
                )
            except ValueError:
                kinds = [schema.field(name).type for schema in (schemas[0], schemas[paths.index(path)])]
                raise UserError(
                    f"{key}={path}",
                    f"cannot be put together with {paths[0]}: its column {name!r} is {kinds[1]}, there {kinds[0]}",
                    "write both with the same types",
                ) from None


def _check_parquet(what: str, path: Path, needed: Iterable[str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    prompt = next(iter(needed))
    try:
        file = pq.ParquetFile(path)
        columns = file.schema_arrow
    except (pa.ArrowException, OSError):
        raise UserError(what, "is no parquet file", SEE) from None
    for name in needed:
        if name not in columns.names:
            raise UserError(what, f"lacks verl's column {name!r} (it has {', '.join(columns.names)})")
    check_prompt_type(what, prompt, columns.field(prompt).type)
    try:
        for name in list(needed)[1:]:
            if (column := pq.read_table(path, columns=[name])[name]).null_count:
                raise UserError(what, f"row {column.is_null().to_pylist().index(True)}, column {name!r}: is null")
        return check_prompts(what, prompt, (batch.column(0) for batch in file.iter_batches(columns=[prompt])))
    except (pa.ArrowException, OSError):
        raise UserError(what, f"one of its columns {', '.join(needed)} cannot be read", SEE) from None


def check_prompts(what: str, name: str, chunks: Iterable[Any]) -> int:
    """Check that each row is a text conversation. Returns the number of rows. Raises UserError."""
    rows = 0
    for chunk in chunks:
        if (bad := _first_bad(chunk)) is not None:
            raise UserError(what, f"row {rows + bad[0]}, column {name!r}: {bad[1]}")
        rows += len(chunk)
    if not rows:
        raise UserError(what, "has no rows")
    return rows


def check_prompt_type(what: str, name: str, kind) -> None:
    """Check that a parquet column is a list of role and content, both text. Raises UserError."""
    import pyarrow as pa

    if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        raise UserError(what, f"its column {name!r} is {kind}, not a list of role and content")
    message = kind.value_type
    fields = {field.name: field.type for field in message} if pa.types.is_struct(message) else {}
    for part in ("role", "content"):
        is_text = part in fields and (pa.types.is_string(fields[part]) or pa.types.is_large_string(fields[part]))
        if not is_text:
            raise UserError(what, f"its column {name!r} is {kind}, not a list of role and content, both text")


def _first_bad(prompts) -> tuple[int, str] | None:
    """The first row of a chunk that is not a conversation, and why. Works on columns for speed."""
    import pyarrow.compute as pc

    messages = pc.list_flatten(prompts)
    parts = [pc.struct_field(messages, part) for part in ("role", "content")]
    lengths = pc.fill_null(pc.list_value_length(prompts), 0)
    if pc.min(lengths).as_py() and not messages.null_count and not any(part.null_count for part in parts):
        return None
    return next(
        ((row, problem) for row, messages in enumerate(prompts.to_pylist()) if (problem := problem_of(messages))), None
    )


def problem_of(messages: Any) -> str:
    """Why a cell is not a conversation; empty if it is one."""
    if not isinstance(messages, list) or not messages:
        return "must be a list of role and content, with at least one message"
    for message in messages:
        if not isinstance(message, dict):
            return f"must be a list of role and content, not of {type(message).__name__}"
        for part in ("role", "content"):
            if not isinstance(message.get(part), str):
                return f"its {part} must be text, not {type(message.get(part)).__name__}"
    return ""
