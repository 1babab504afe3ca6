"""Run an evaluation and show its progress, read from the files in its folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from prefix_opd.base.errors import EXIT_BAD_INPUT
from prefix_opd.evaluation.record import PARTS, PROGRESS_FILE
from prefix_opd.run.follow import News, show


class Problems:
    """An evaluation: a bar over problems; a file or a pipe gets one line per chunk."""

    def __init__(self, folder: Path, total: int, done: int, moving: bool):
        self.folder, self.total, self.done, self.moving = folder, total, done, moving
        self.parts = self._parts()

    def news(self) -> Iterator[News]:
        with contextlib.suppress(OSError, ValueError):  # there is none before the first chunk
            found = json.loads((self.folder / PROGRESS_FILE).read_text())
            before, self.parts = self.parts, self._parts()
            line = f"{found['done']} of {self.total} problems" if self.parts != before and not self.moving else ""
            yield News(found["done"], found["benchmark"], line)

    def _parts(self) -> int:
        return sum(1 for _ in (self.folder / PARTS).glob("*.parquet"))


def run_and_follow(command: Sequence[str], folder: Path, problems: int, done: int, environment: dict[str, str]) -> int:
    """`prefix_opd.run.follow.show` with a bar from ``done`` to ``problems``. Returns the exit code."""
    (folder / PROGRESS_FILE).unlink(missing_ok=True)
    console = Console(stderr=True)
    code = show(command, folder, environment, Problems(folder, problems, done, console.is_terminal), console)
    if code not in (0, EXIT_BAD_INPUT):
        console.print("start the same command again to continue", highlight=False)
    return code
