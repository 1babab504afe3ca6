"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The file appears whole or not at all."""
    with whole_files(path.parent) as place:
        place(path.name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
