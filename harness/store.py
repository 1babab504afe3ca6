"""Results as JSON lines: one row per run, appended when the run ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from prefix_opd.base.files import read_lines, write_lines

Row = dict[str, Any]
"""A run's result; ``error`` says why a run failed."""


class Store:
    """A file of rows. ``key`` identifies a row's case. Of two finished rows with the same key, the later counts."""

    def __init__(self, path: Path, key: Callable[[Row], Hashable]):
        self.path, self.key = path, key

    def read(self) -> list[Row]:
        """All rows. Skips a torn last line of a killed run; raises ValueError for any other line that is not JSON."""
        return list(read_lines(self.path))

    def finished(self) -> dict[Hashable, Row]:
        """Key -> row, for the runs that did not fail."""
        return {self.key(row): row for row in self.read() if not row.get("error")}

    def append(self, row: Row) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            write_lines(self.path, self.read())
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
