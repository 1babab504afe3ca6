"""Data files of JSON: their rows, and the types with which ``datasets``, by which verl reads them, reads them."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError, one_line

LINES = (".json", ".jsonl")
"""Files with one JSON object per line, or with one JSON array of objects."""
ONE_EACH = "write one object a line, or one array of objects"
CHUNK = 10 << 20
"""Bytes whose types ``datasets`` finds at once (datasets/packaged_modules/json/json.py: JsonConfig.chunksize)."""


class _Twice(ValueError):
    """A key that an object has twice; ``datasets`` does not read such a file."""


def read_lines(what: str, path: Path) -> list[dict[str, Any]]:
    """The rows of a file. Raises UserError."""
    number = 1
    try:
        text = path.read_text(encoding="utf-8-sig")  # drops a byte order mark
        unit, rows = ("row" if text.lstrip().startswith("[") else "line"), {}
        if unit == "row":
            rows = dict(enumerate(_parsed(text)))
        else:
            for number, line in enumerate(text.split("\n"), 1):  # a text may hold other ends of lines
                if line.strip():
                    rows[number] = _parsed(line)
    except UnicodeDecodeError:
        raise UserError(what, "is not text in UTF-8", "save it as UTF-8") from None
    except _Twice as error:
        where = "an object" if unit == "row" else f"line {number}"
        raise UserError(what, f"{where} has the key {str(error)!r} twice", "leave one of them out") from None
    except (ValueError, RecursionError):
        raise UserError(what, f"line {number} is not JSON", ONE_EACH) from None
    for number, row in rows.items():
        if not isinstance(row, dict):
            raise UserError(what, f"{unit} {number} is not a JSON object", ONE_EACH)
    return list(rows.values())


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def schema_of_lines(what: str, path: Path):
    """The columns and their types. Raises UserError if the types in a column conflict, or if texts become dates."""
    import datasets
    import pyarrow as pa
    from datasets.table import table_cast
    from pyarrow import json as arrow_json

    rows = read_lines(what, path)
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = pa.array([row.get(name) for row in rows]).type
        except (pa.ArrowException, OverflowError, UnicodeEncodeError, ValueError) as error:
            several = "numbers beyond 64 bits" if isinstance(error, OverflowError) else "values of several types"
            rule = f"column {name!r} holds {several} ({str(error)[:120]})"
            raise UserError(what, rule, "write all with one type") from None
    first, unread = None, "datasets does not read it"
    for chunk in _chunks(path, rows):
        try:
            table = arrow_json.read_json(io.BytesIO(chunk), arrow_json.ReadOptions(block_size=len(chunk)))
            first = first or datasets.Features.from_arrow_schema(table.schema)
            for name in first.keys() - set(table.column_names):
                table = table.append_column(name, pa.nulls(len(table), first.arrow_schema.field(name).type))
            table_cast(table, first.arrow_schema)
            unread = "the rows after its first 10 MiB have other columns or types, and datasets does not read it"
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise UserError(what, f"{unread} ({one_line(error)[:160]})", "write it as parquet") from None
        if dated := next((field.name for field in table.schema if "timestamp" in str(field.type)), None):
            rule = f"the texts of its column {dated!r} look like dates, and datasets reads them as such"
            raise UserError(what, rule, "write the file as parquet, which keeps text")
    return pa.schema(columns)


def _chunks(path: Path, rows: list[dict[str, Any]]) -> Iterator[bytes]:
    """The rows as lines, in the parts in which ``datasets`` reads them: it casts each to the types of the first."""
    with path.open("rb") as file:
        while chunk := (file.read(CHUNK) + file.readline()).removeprefix(codecs.BOM_UTF8):
            if chunk.lstrip().startswith(b"["):  # an array is read at once
                yield "".join(json.dumps(row) + "\n" for row in rows).encode()
                return
            yield chunk
