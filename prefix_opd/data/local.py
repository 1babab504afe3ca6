"""Rows from local files in the data set's layout: a copy of its repository, or one file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import sha256_of
from prefix_opd.data.known import KnownSet
from prefix_opd.data.layouts import hint

FORMATS = (".parquet", ".jsonl", ".json", ".csv")
BEGINNING = 256
"""Number of characters searched for the first non-space character of a file."""
BATCH_ROWS = 256
"""Rows per batch: some 6 MB of OpenThoughts3."""

_LFS_POINTER = b"version https://git-lfs"


class LocalSource:
    """Rows from files on this machine: one file, or those in a folder that the data set's ``stems`` select."""

    def __init__(self, known: KnownSet, place: Path):
        self.known, self.place = known, Path(place)
        self.files = _choose(known, self.place)
        for path in self.files:
            with open(path, "rb") as file:
                if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    raise UserError(str(path), "is a git-lfs pointer, not the data", "fetch it with `git lfs pull`")
        self.total = self._count()

    def _count(self) -> int | None:
        if self.files[0].suffix != ".parquet":
            return None
        return sum(self._open_parquet(path).metadata.num_rows for path in self.files)

    def _open_parquet(self, path: Path) -> pq.ParquetFile:
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(str(path), f"cannot be read as parquet ({error})") from error
        have = file.schema_arrow.names
        for column in self.known.columns:
            if column.required and column.name not in have:
                told = f"is missing; the file has {', '.join(have)}"
                raise UserError(f"{path.name}, column {column.name!r}", told, hint(have))
        _check_once(path, have)
        return file

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, with the files in order of their names."""
        readers = {".parquet": self._parquet, ".jsonl": self._json, ".json": self._json, ".csv": self._csv}
        for path in self.files:
            yield from readers[path.suffix](path)

    def _parquet(self, path: Path) -> Iterator[dict[str, Any]]:
        file = self._open_parquet(path)
        wanted = [column.name for column in self.known.columns if column.name in file.schema_arrow.names]
        try:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise UserError(str(path), f"cannot be read to its end ({error})") from error

    def _lines(self, path: Path) -> Iterator[dict[str, Any]]:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{path}, line {number}", f"is not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise UserError(f"{path}, line {number}", "must be one JSON object")
                yield row

    def _json(self, path: Path) -> Iterator[dict[str, Any]]:
        """Rows of a file with one array of objects, or one object per line."""
        with open(path, encoding="utf-8-sig") as file:
            try:
                if file.read(BEGINNING).lstrip()[:1] != "[":
                    yield from self._lines(path)
                    return
                file.seek(0)
                rows = json.load(file)
            except UserError:
                raise
            except (ValueError, RecursionError) as error:
                raise UserError(str(path), f"is not JSON ({error})") from error
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise UserError(f"{path}, entry {number}", "must be one JSON object")
            yield row

    def _csv(self, path: Path) -> Iterator[dict[str, Any]]:
        with open(path, encoding="utf-8-sig", newline="") as file:
            try:
                reader = csv.DictReader(file, restval="", strict=True)
                _check_once(path, list(reader.fieldnames or ()))
                for number, row in enumerate(reader):
                    if None in row:
                        fix = "quote the cells that contain commas"
                        raise UserError(f"{path}, row {number}", "has more cells than the first line has names", fix)
                    yield row
            except (csv.Error, UnicodeDecodeError) as error:
                raise UserError(str(path), f"cannot be read as csv ({error})") from error

    def described(self) -> dict[str, Any]:
        """Names and sizes of the files, and their hashes unless the set is too large to read again."""
        root = self.place if self.place.is_dir() else self.place.parent
        files = []
        for path in self.files:
            entry: dict[str, Any] = {"name": path.relative_to(root).as_posix(), "bytes": path.stat().st_size}
            files.append(entry if self.known.streamed else entry | {"sha256": sha256_of(path)})
        return {"kind": "local files", "files": files}


def _check_once(path: Path, names: list[str]) -> None:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path.name}, column {twice!r}", "occurs more than once", "rename all but one")


def _choose(known: KnownSet, place: Path) -> list[Path]:
    if not place.exists():
        raise UserError(f"--from {place}", "does not exist")
    if place.is_file():
        if place.suffix not in FORMATS:
            raise UserError(f"--from {place}", f"must be a folder or a file ending in {', '.join(FORMATS)}")
        return [place]
    found = _files(place, [kind for kind in FORMATS if kind != ".json"]) or _files(place, [".json"])
    of_stem = ([path for path in found if path.name.lower().startswith(stem)] for stem in known.stems)
    named = next(filter(None, of_stem), [])
    chosen = named or (found if len(found) == 1 else [])
    if not chosen:
        begin = " or ".join(f"{stem}*" for stem in known.stems)
        raise UserError(
            f"--from {place}",
            f"holds no file of {known.name} ({begin}, ending in {', '.join(FORMATS)})",
            "name the file itself with --from FILE",
        )
    if len({path.suffix for path in chosen}) > 1:
        raise UserError(f"--from {place}", f"holds {known.name} in several formats", "name one file with --from FILE")
    return chosen


def _files(place: Path, kinds: list[str]) -> list[Path]:
    """Visible files with a suffix in ``kinds``. ``.json`` is tried last: repositories use it for descriptions."""
    return sorted(
        path
        for path in place.rglob("*")
        if path.suffix in kinds and not any(part.startswith(".") for part in path.relative_to(place).parts)
    )
