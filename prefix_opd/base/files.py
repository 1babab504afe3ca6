"""Files that appear whole or not at all, files of JSON lines, and lock files."""

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
    """Give a function from a file's final name to a temporary path in ``folder``. If the block succeeds, move the files
    to their final names, in order. Contents and names are then on the disk and survive a power cut."""
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
    """Give a temporary path, where the block makes a folder. If the block succeeds, move it to ``folder``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
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
    """The objects of a file of JSON lines, in order; nothing if the file does not exist.

    An incomplete last line is skipped: its writer was killed, or is still writing.

    Raises:
        UserError: another line is not JSON.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                if line.endswith("\n"):
                    raise UserError(f"{path}, line {number}", f"is not JSON: {line[:80]!r}") from None
                return  # the writer may have continued: the next read would return the rest of this line


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(str(path), f"is not JSON ({error})", "remove it, or write it again") from None
    if not isinstance(found, dict):
        raise UserError(str(path), "is not one JSON object", "remove it, or write it again")
    return found


def onto_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, would survive a power cut."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def hold(path: Path, refusal: UserError):
    """Lock ``path`` until the returned file is closed or the process ends. Raises ``refusal`` if it is locked."""
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
    """Whether a live process has locked ``path``. A killed process leaves the file, but not the lock."""
    if not path.exists():
        return False
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def check_out(path: Path | None) -> None:
    """Raises UserError, before any work, if ``--out`` cannot be a file; None is accepted."""
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"--out {path}", "is a folder", "name a file")
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise UserError(f"--out {path}", f"{parent} is a file, not a folder", "name a file in a folder")


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
