"""The run's own record: one JSON line a step in ``metrics.jsonl`` of the run's folder.

It is what the progress bar, the summary and the plots read, whatever trackers verl writes to. A resumed run takes
back the lines of steps that its checkpoint does not know, and puts in the line of the checkpoint's own step if the
run was killed between the two, so no step is doubled or missing.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefix_opd.base.files import read_lines, write_lines

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"


def read_metrics(run: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a run, in order. A last line that a killed run left torn is passed over."""
    yield from read_lines(Path(run) / METRICS_FILE)


def lines_up_to(path: Path, resumed_step: int) -> list[dict[str, Any]]:
    """The lines of the steps that a resumed run has learnt; none for a fresh run (0)."""
    return [line for line in read_lines(path) if resumed_step and line["step"] <= resumed_step]


class RunLog:
    """A sink with the interface of verl's trackers: ``log(data, step)``, ``finish()``."""

    def __init__(
        self,
        run: str | Path,
        resumed_step: int = 0,
        recovered: Mapping[str, Any] | None = None,
        validation_due: bool = False,
    ):
        """
        Args:
            run: the run's folder.
            resumed_step: the last step that the loaded checkpoint has learnt; 0 for a fresh run.
            recovered: that step's numbers as the checkpoint has them, in case its line was never written.
            validation_due: that step is validated before the next one; its line waits for the result.
        """
        self.path = Path(run) / METRICS_FILE
        kept = lines_up_to(self.path, resumed_step)
        if recovered and (not kept or kept[-1]["step"] < resumed_step):
            kept.append({"step": resumed_step, **numbers(recovered)})
        self._tell_missing(kept, resumed_step)
        self.waiting = kept.pop() if kept and validation_due else None
        self.last_step = kept[-1]["step"] if kept else -1
        write_lines(self.path, kept)
        self.file = self.path.open("a", buffering=1)

    def _tell_missing(self, kept: list[dict[str, Any]], resumed_step: int) -> None:
        there = {line["step"] for line in kept}
        if missing := [step for step in range(1, resumed_step + 1) if step not in there]:
            logger.warning(
                "%s lacks %d of the %d steps before this start, the first of them step %d: tables lack them",
                self.path, len(missing), resumed_step, missing[0],
            )  # fmt: skip

    def log(self, data: Mapping[str, Any], step: int) -> None:
        """Append one step; a step that the log has already (a validation repeated after a resume) is passed over."""
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
    """A tracker that may fail, e.g. for want of a network: the run goes on without it, and it is told once."""

    def __init__(self, name: str, tracker: Any):
        self.name, self.tracker, self.told = name, tracker, False

    def log(self, data: Mapping[str, Any], step: int) -> None:
        try:
            self.tracker.log(data=data, step=step)
        except Exception as error:
            if not self.told:
                logger.warning("%s takes no metrics from step %d on (%s); see metrics.jsonl", self.name, step, error)
            self.told = True

    def finish(self, *arguments: Any, **named: Any) -> None:
        try:
            self.tracker.finish(*arguments, **named)
        except Exception as error:
            logger.warning("%s could not be closed (%s); see metrics.jsonl", self.name, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tracker, name)


def numbers(data: Mapping[str, Any]) -> dict[str, float | int]:
    """What of a step's values can stand in a line of JSON."""
    found = {name: _number(value) for name, value in data.items()}
    return {name: value for name, value in found.items() if value is not None}


def _number(value: Any) -> float | int | None:
    """JSON knows no NaN and no NumPy: what is no finite number is left out."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value
