"""What a run says while it runs: warnings and milestones, one JSON line each in ``events.jsonl`` of its folder.

The trainer's process writes them; the progress bar and the summary read them. Milestones of start-up come from our own
hooks in verl's trainer: none is read out of a log. A folder of an earlier version has no such file.
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

from prefix_opd.base.files import read_lines

logger = logging.getLogger(__name__)

EVENTS_FILE = "events.jsonl"
MILESTONE, WARNING, THROWN_AWAY = "milestone", "warning", "thrown_away"


@dataclass(frozen=True)
class Event:
    """One line. Example: ``Event(1764158941.2, 3, "warning", "the gradient norm is 2e+06; lower …")``."""

    time: float
    """Seconds since 1970."""
    step: int | None
    """The update that it belongs to. Of a milestone: the update that the run begins from; none until that is known."""
    kind: str
    """"milestone", "warning", or "thrown_away" for a batch that is sampled again."""
    text: str


class EventLog:
    """Appends events. A file that cannot be written costs the events, not the run."""

    def __init__(self, run: str | Path):
        self.path = Path(run) / EVENTS_FILE

    def milestone(self, text: str, step: int | None = None) -> None:
        """The run has come so far. With ``step``: it begins from there, and what came after that step is forgotten."""
        self._write(Event(time.time(), step, MILESTONE, text))

    def warn(self, step: int, text: str, kind: str = WARNING) -> None:
        """Something is wrong in a step; the process's own log has it too."""
        logger.warning("step %d: %s", step, text)
        self._write(Event(time.time(), step, kind, text))

    def _write(self, event: Event) -> None:
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(event)) + "\n")


class NewEvents:
    """Reads what is written from now on."""

    def __init__(self, run: Path):
        self.path = run / EVENTS_FILE
        self.position = self.path.stat().st_size if self.path.exists() else 0

    def take(self) -> Iterator[Event]:
        """The events since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.position)
            read = file.read()
        whole = read[: read.rfind(b"\n") + 1]  # the last line may still be being written
        self.position += len(whole)
        for line in whole.splitlines():
            yield Event(**json.loads(line))


def count_by_step(run: Path) -> dict[str, Counter[int]]:
    """How many events each step has, by kind. A resumed run forgets those of steps that it makes again."""
    found: dict[str, Counter[int]] = {kind: Counter() for kind in (WARNING, THROWN_AWAY)}
    for line in read_lines(run / EVENTS_FILE):
        event = Event(**line)
        if event.kind != MILESTONE:
            found[event.kind][event.step] += 1
        elif event.step is not None:
            for kind, steps in found.items():
                found[kind] = Counter({step: count for step, count in steps.items() if step <= event.step})
    return found
