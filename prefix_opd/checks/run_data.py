"""The data files that a run names: which they are, whether verl can train on them, and the conversations in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.keys import TRAIN_KEY

LINES = (".json", ".jsonl")
"""Files of one JSON object a line; all others are parquet."""
SEE = "see `prefix-opd prepare --help`"

Conversation = list[dict[str, Any]]


def data_files(config: DictConfig, key: str) -> list[Path]:
    """The files behind a config key. Raises UserError if it names none, or one that does not exist."""
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
    return paths


def check_data(config: DictConfig, key: str) -> int:
    """Refuse files that verl could not train on, row by row: it would find out after minutes. Returns their rows.

    Raises:
        UserError: names the file, and the row where one is wrong.
    """
    rows = sum(_check_file(f"{key}={path}", path, config.data) for path in data_files(config, key))
    if key == TRAIN_KEY and rows < config.data.train_batch_size:
        raise UserError(
            f"data.train_batch_size={config.data.train_batch_size}", f"exceeds the {rows} rows of data.train_files"
        )
    return rows


def conversations(config: DictConfig, key: str) -> list[Conversation]:
    """The conversation of every row of files that `check_data` accepts."""
    check_data(config, key)
    found: list[Conversation] = []
    for path in data_files(config, key):
        name = config.data.prompt_key
        if path.suffix in LINES:
            found += [row[name] for row in _read_lines(str(path), path)]
        else:
            import pyarrow.parquet as pq

            found += pq.read_table(path, columns=[name])[name].to_pylist()
    return found


def _check_file(what: str, path: Path, data: DictConfig) -> int:
    needed = (data.prompt_key, data.reward_fn_key, "reward_model")
    if path.suffix not in LINES:
        return _check_parquet(what, path, needed)
    rows = _read_lines(what, path)
    for number, row in enumerate(rows):
        for name in needed:
            if name not in row:
                raise UserError(what, f"row {number} lacks verl's column {name!r} (it has {', '.join(map(str, row))})")
        if problem := _problem(row[data.prompt_key]):
            raise UserError(what, f"row {number}, column {data.prompt_key!r}: {problem}")
    if not rows:
        raise UserError(what, "has no rows")
    return len(rows)


def _read_lines(what: str, path: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UserError(what, f"line {number} is no JSON object")
                rows.append(row)
    except UnicodeDecodeError:
        raise UserError(what, "is no text in UTF-8") from None
    except (json.JSONDecodeError, RecursionError):
        raise UserError(what, f"line {number} is no JSON") from None
    return rows


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
        return check_prompts(what, prompt, (batch.column(0) for batch in file.iter_batches(columns=[prompt])))
    except (pa.ArrowException, OSError):
        raise UserError(what, f"its column {prompt!r} cannot be read", SEE) from None


def check_prompts(what: str, name: str, chunks: Iterable[Any]) -> int:
    """Refuse a row that holds no conversation in text. Returns the number of rows; raises UserError."""
    rows = 0
    for chunk in chunks:
        if (bad := _first_bad(chunk)) is not None:
            raise UserError(what, f"row {rows + bad[0]}, column {name!r}: {bad[1]}")
        rows += len(chunk)
    if not rows:
        raise UserError(what, "has no rows")
    return rows


def check_prompt_type(what: str, name: str, kind) -> None:
    """Refuse a parquet column that is no list of role and content, both text. Raises UserError."""
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
    """The first row of a chunk that holds no conversation, and why; looked for as columns, for there are many."""
    import pyarrow.compute as pc

    messages = pc.list_flatten(prompts)
    parts = [pc.struct_field(messages, part) for part in ("role", "content")]
    lengths = pc.fill_null(pc.list_value_length(prompts), 0)
    if pc.min(lengths).as_py() and not messages.null_count and not any(part.null_count for part in parts):
        return None
    return next(
        ((row, problem) for row, messages in enumerate(prompts.to_pylist()) if (problem := _problem(messages))), None
    )


def _problem(messages: Any) -> str:
    """Why a cell is no conversation; empty if it is one."""
    if not isinstance(messages, list) or not messages:
        return "must be a list of role and content, with at least one message"
    for message in messages:
        if not isinstance(message, dict):
            return f"must be a list of role and content, not of {type(message).__name__}"
        for part in ("role", "content"):
            if not isinstance(message.get(part), str):
                return f"its {part} must be text, not {type(message.get(part)).__name__}"
    return ""
