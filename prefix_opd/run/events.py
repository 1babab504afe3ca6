"""Warnings and milestones of a run: one JSON line each in ``events.jsonl`` of its folder.

The trainer's process writes events. The progress bar and the summary read them. Start-up milestones come from our
hooks in verl's trainer. Runs of earlier versions have no such file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import read_lines

logger = logging.getLogger(__name__)

EVENTS_FILE = "events.jsonl"
MILESTONE, WARNING, THROWN_AWAY = "milestone", "warning", "thrown_away"


@dataclass(frozen=True)
class Event:
    """One event. Example: ``Event(1764158941.2, 3, "warning", "the gradient norm is 2e+06; lower …")``."""

    time: float
    """Seconds since 1970."""
    step: int | None
    """The update that the event belongs to. In a milestone: the step that the run starts from, None while unknown."""
    kind: str
    """"milestone", "warning", or "thrown_away" (a batch is discarded and sampled again)."""
    text: str


_FIELDS = set(Event.__annotations__)


class EventLog:
    """Appends events. The run continues if the file cannot be written."""

    def __init__(self, run: str | Path):
        self.path = Path(run) / EVENTS_FILE

    def milestone(self, text: str, step: int | None = None) -> None:
        """Record a milestone. ``step`` means that the run starts from it; events of later steps no longer count."""
        self._write(Event(time.time(), step, MILESTONE, text))

    def warn(self, step: int, text: str, kind: str = WARNING) -> None:
        """Record a problem in a step, here and in the process's log."""
        logger.warning("step %d: %s", step, text)
        self._write(Event(time.time(), step, kind, text))

    def _write(self, event: Event) -> None:
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(event)) + "\n")


class NewEvents:
    """Reads events that are written after its construction."""

    def __init__(self, run: Path):
        self.path = run / EVENTS_FILE
        self.position = self.path.stat().st_size if self.path.exists() else 0

    def take(self) -> Iterator[Event]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.position)
            read = file.read()
        whole = read[: read.rfind(b"\n") + 1]  # the last line may be incomplete
        self.position += len(whole)
        for line in whole.splitlines():
            yield Event(**json.loads(line))


def count_by_step(run: Path) -> dict[str, Counter[int]]:
    """Kind -> events per step. Events of steps that a resumed run repeats are not counted twice."""
    found: dict[str, Counter[int]] = {kind: Counter() for kind in (WARNING, THROWN_AWAY)}
    for line in read_lines(run / EVENTS_FILE):
        if not isinstance(line, dict) or line.keys() != _FIELDS or line["kind"] not in (*found, MILESTONE):
            rule = f"has a line that is not an event: {str(line)[:80]}"
            raise UserError(str(run / EVENTS_FILE), rule, "another program wrote it")
        event = Event(**line)
        if event.kind != MILESTONE:
            found[event.kind][event.step] += 1
        elif event.step is not None:
            for kind, steps in found.items():
                found[kind] = Counter({step: count for step, count in steps.items() if step <= event.step})
    return found
