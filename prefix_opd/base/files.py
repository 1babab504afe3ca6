"""Files that appear whole or not at all, files of JSON lines, and a file that one process holds."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError


@contextmanager
def whole_files(folder: Path) -> Iterator[Callable[[str], Path]]:
    """Give temporary paths in ``folder``; move them to their names, in order, if the block ends well.

    Contents and names have reached the disk when the block ends: they outlive a power cut.

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
            onto_disk(path)
            os.replace(path, folder / name)
        onto_disk(folder)
    finally:
        for path in places.values():
            path.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary path beside ``folder``; move it there if the block ends well. The block makes the folder."""
    draft = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    yield draft
    os.replace(draft, folder)


def write_whole(path: Path, text: str) -> None:
    """Write one file that appears whole or not at all."""
    with whole_files(path.parent) as place:
        place(path.name).write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one object as JSON, whole or not at all."""
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file of JSON lines, whole or not at all."""
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, in order; none where there is no file.

    A last line without an end is passed over: its writer was killed, or is still writing it.

    Raises:
        UserError: a line that is no JSON.
    """
    if not path.exists():
        return
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                if line.endswith("\n"):
                    raise UserError(f"{path}, line {number}", f"is no JSON: {line[:80]!r}") from None
                return  # whoever writes may go on meanwhile: what comes next would be the rest of this line


def onto_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, would outlive a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def hold(path: Path, refusal: UserError):
    """An open file that marks ``path`` as held, until it is closed or the process ends.

    Raises:
        refusal: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise refusal from None
    # a forked copy (prefix_opd/cpu/warm_python.py) would keep the lock after this process was killed
    os.register_at_fork(after_in_child=lock.close)
    return lock


def is_held(path: Path) -> bool:
    """Whether a live process holds ``path``. A killed one leaves the file behind, but not the lock."""
    if not path.exists():
        return False
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


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
