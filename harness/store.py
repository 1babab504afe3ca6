"""Results as JSON lines: one row a run, appended when the run ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from prefix_opd.base.files import read_lines, write_lines

Row = dict[str, Any]
"""A run's result; ``error`` says why a run failed."""


class Store:
    """A file of rows. ``key`` names a row's case: of two finished rows with one key the later counts."""

    def __init__(self, path: Path, key: Callable[[Row], Hashable]):
        self.path, self.key = path, key

    def read(self) -> list[Row]:
        """All rows, except a torn last line of a killed run. Raises ValueError for another line that is no JSON."""
        return list(read_lines(self.path))

    def finished(self) -> dict[Hashable, Row]:
        """The rows of runs that did not fail, by key."""
        return {self.key(row): row for row in self.read() if not row.get("error")}

    def append(self, row: Row) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            write_lines(self.path, self.read())
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
