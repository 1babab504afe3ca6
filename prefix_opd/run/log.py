"""The run's metrics: one JSON line per step in ``metrics.jsonl`` of its folder.

The progress bar, the summary and the plots read this file; it does not depend on verl's trackers. A resumed run removes
the lines of later steps than its checkpoint. It adds the line of the checkpoint's step if a kill prevented that line.
So each step has exactly one line.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import read_lines, write_lines

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"


def read_metrics(run: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a run, in order. An incomplete last line is skipped.

    Raises UserError for a line that is not an object of numbers with a step.
    """
    path = Path(run) / METRICS_FILE
    for line in read_lines(path):
        is_line = isinstance(line, dict) and isinstance(line.get("step"), int)
        if not is_line or not all(isinstance(value, (int, float)) for value in line.values()):
            rule = f"has a line that is not an object of numbers with a step: {str(line)[:80]}"
            raise UserError(str(path), rule, "another program wrote it")
        yield line


def lines_up_to(path: Path, resumed_step: int) -> list[dict[str, Any]]:
    """The lines of steps up to ``resumed_step``; empty for a fresh run (0)."""
    return [line for line in read_lines(path) if resumed_step and line["step"] <= resumed_step]


class RunLog:
    """A tracker with verl's interface: ``log(data, step)``, ``finish()``."""

    def __init__(
        self,
        run: str | Path,
        resumed_step: int = 0,
        recovered: Mapping[str, Any] | None = None,
        validation_due: bool = False,
    ):
        """
        Args:
            resumed_step: the step of the loaded checkpoint; 0 for a fresh run.
            recovered: the metrics of that step from the checkpoint, in case its line is missing.
            validation_due: that step is validated first; its line is written together with the result.
        """
        self.path = Path(run) / METRICS_FILE
        kept = lines_up_to(self.path, resumed_step)
        if recovered and (not kept or kept[-1]["step"] < resumed_step):
            kept.append({"step": resumed_step, **numbers(recovered)})
        if missing := sorted(set(range(1, resumed_step + 1)) - {line["step"] for line in kept}):
            logger.warning(
                "%s has no metrics for %d of the %d steps before this start, the first of them step %d",
                self.path, len(missing), resumed_step, missing[0],
            )  # fmt: skip
        self.waiting = kept.pop() if kept and validation_due else None
        self.last_step = kept[-1]["step"] if kept else -1
        write_lines(self.path, kept)
        self.file = self.path.open("a", buffering=1)

    def log(self, data: Mapping[str, Any], step: int) -> None:
        """Append one step. A step that is already there (a validation repeated after a resume) is skipped."""
        line = {"step": step, **numbers(data)}
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            if waiting["step"] == step:
                line = {**waiting, **line}
            else:
                self.log(waiting, waiting["step"])
        if step <= self.last_step:
            return
        self.last_step = step
        self.file.write(json.dumps(line) + "\n")

    def finish(self) -> None:
        self.file.close()


class Forgiving:
    """A tracker whose failures, e.g. without a network, do not stop the run. The first failure is logged."""

    def __init__(self, name: str, tracker: Any):
        self.name, self.tracker, self.failed = name, tracker, False

    def log(self, data: Mapping[str, Any], step: int) -> None:
        try:
            self.tracker.log(data=data, step=step)
        except Exception as error:
            if not self.failed:
                logger.warning("%s failed at step %d (%s); metrics.jsonl has all metrics", self.name, step, error)
            self.failed = True

    def finish(self, *arguments: Any, **named: Any) -> None:
        try:
            self.tracker.finish(*arguments, **named)
        except Exception as error:
            logger.warning("%s could not be closed (%s); metrics.jsonl has all metrics", self.name, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tracker, name)


def numbers(data: Mapping[str, Any]) -> dict[str, float | int]:
    """The finite numbers of a step, as Python numbers; JSON has no NaN and no NumPy types."""
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in data.items()}
    return {
        name: value
        for name, value in plain.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
