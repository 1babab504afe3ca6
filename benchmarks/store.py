"""Results as JSON lines: one line a run, appended when the run ends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.machine import CHANGED

Result = dict[str, Any]
"""``key`` of the case, ``case``, ``repetition``, ``commit``, ``machine``, ``versions``, ``date``, ``load`` and either
``error`` or ``steps``, one for each training step: ``step``, ``cap``, ``counts``, ``seconds``, ``phases``, ``tokens``
(of the responses), ``sequences``, ``flops``."""


class Store:
    """The file of results."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> list[Result]:
        """All lines; a last line that a killed run left half written is passed over."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines()
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                if number < len(lines):
                    raise ValueError(f"{self.path}: line {number} is not JSON") from None
        return found

    def append(self, result: Result) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = self.path.read_text() if self.path.exists() else ""
        if text and not text.endswith("\n"):
            self.path.write_text(text[: text.rfind("\n") + 1])
        with self.path.open("a") as file:
            file.write(json.dumps(result) + "\n")

    def has(self, case: Case, repetition: int, commit: str | None) -> bool:
        """Whether this run was measured already. Files that differ from their commit are measured anew."""
        if commit is None or commit.endswith(CHANGED):
            return False
        return any(
            result["key"] == case.key()
            and result["repetition"] == repetition
            and result["commit"] == commit
            and "error" not in result
            for result in self.read()
        )


def latest(results: Iterable[Result]) -> list[Result]:
    """The results of the commit that was measured last, the later of two with one case and repetition."""
    results = list(results)
    if not results:
        return []
    newest = results[-1]["commit"]
    return list({(r["key"], r["repetition"]): r for r in results if r["commit"] == newest}.values())
