"""The run's own record: one JSON line a step in ``metrics.jsonl`` of the run's folder.

It is what the progress bar, the summary and the plots read, whatever trackers verl writes to. A resumed run takes
back the lines of steps that its checkpoint does not know, so no step is doubled or missing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"


def read_metrics(run: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a run, in order. A last line that a killed run left torn is passed over."""
    path = Path(run) / METRICS_FILE
    if not path.exists():
        return
    with path.open() as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                if line.endswith("\n"):
                    raise ValueError(f"{path} has a line that is no JSON: {line[:80]!r}") from None


class RunLog:
    """A sink with the interface of verl's trackers: ``log(data, step)``, ``finish()``."""

    def __init__(self, run: str | Path, resumed_step: int = 0):
        """
        Args:
            run: the run's folder.
            resumed_step: the last step that the loaded checkpoint has learnt; 0 for a fresh run.
        """
        self.path = Path(run) / METRICS_FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(run) if resumed_step and line["step"] <= resumed_step]
        self.last_step = kept[-1]["step"] if kept else -1
        draft = self.path.with_suffix(".tmp")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(draft, self.path)
        self.file = self.path.open("a", buffering=1)

    def log(self, data: Mapping[str, Any], step: int) -> None:
        """Append one step; a step that the log has already (a validation repeated after a resume) is passed over."""
        if step <= self.last_step:
            return
        self.last_step = step
        numbers = {name: _number(value) for name, value in data.items()}
        line = {"step": step, **{name: value for name, value in numbers.items() if value is not None}}
        self.file.write(json.dumps(line) + "\n")

    def finish(self) -> None:
        self.file.close()


def _number(value: Any) -> float | int | None:
    """JSON knows no NaN and no NumPy: what is no finite number is left out."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value
