"""Files that appear whole or not at all, and a parquet writer whose bytes depend on the rows alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.errors import UserError

ROWS_PER_GROUP = 512


@dataclass(frozen=True)
class FileRecord:
    """What the manifest says of one parquet file."""

    rows: int
    bytes: int
    sha256: str
    """Of the file. It holds for one pyarrow version, which writes its name into the file."""
    rows_sha256: str
    """Of the rows as JSON lines: holds for any version."""


@contextmanager
def whole_files(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Gives temporary paths in ``folder`` and moves them to their names, in order, if the block ends well.

    Yields:
        A function from a file's final name to the path to write it to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, Path] = {}

    def place(name: str) -> Path:
        places[name] = folder / f".{name}.{os.getpid()}.tmp"
        return places[name]

    try:
        yield place
        for name, path in places.items():
            with open(path, "rb") as written:
                os.fsync(written.fileno())
            os.replace(path, folder / name)
    finally:
        for path in places.values():
            path.unlink(missing_ok=True)


def check_out(path: Path | None) -> None:
    """Refuse a ``--out`` that no file can be written to, before any work is done; none passes. Raises UserError."""
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"--out {path}", "is a folder", "name a file")
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise UserError(f"--out {path}", f"{parent} is a file, not a folder", "name a file in a folder")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RowWriter:
    """Writes rows to a parquet file in groups of fixed size, so that memory stays bounded and bytes repeat.

    Args:
        path: the file.
        schema: its columns; no pandas or other metadata is added.
    """

    def __init__(self, path: Path, schema: pa.Schema):
        self._path, self._schema = path, schema
        # Each choice that a newer pyarrow might make otherwise is made here.
        self._writer = pq.ParquetWriter(
            path, schema, compression="zstd", compression_level=3, version="2.6", data_page_version="1.0"
        )
        self._pending: list[dict[str, Any]] = []
        self._rows = 0
        self._digest = hashlib.sha256()

    def add(self, row: dict[str, Any]) -> None:
        """Appends one row."""
        self._pending.append(row)
        self._rows += 1
        self._digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_pylist(self._pending, schema=self._schema))
            self._pending.clear()

    def close(self) -> FileRecord:
        """Finishes the file."""
        self._flush()
        self._writer.close()
        return FileRecord(self._rows, self._path.stat().st_size, sha256_of(self._path), self._digest.hexdigest())
