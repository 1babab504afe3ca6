"""L, lengths, endings and seconds of a run, step by step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from prefix_opd.method import names
from prefix_opd.method.names import PHASES
from prefix_opd.run.history import History


@dataclass(frozen=True)
class Step:
    """One update."""

    step: int
    cap: int
    """L, tokens."""
    mean_length: float
    """Tokens of a rollout."""
    cut: float
    """Share of rollouts that reached L."""
    natural: float
    """Share of rollouts that ended with a stop token."""
    seconds: dict[str, float]
    """By phase; ``step`` is the whole update without validation."""


@dataclass(frozen=True)
class Schedule:
    """All updates of a run."""

    name: str
    steps: list[Step]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def schedule(history: History) -> Schedule:
    """Read the updates of a run."""
    steps = [
        Step(
            step=line["step"],
            cap=int(line[names.PREFIX_LENGTH]),
            mean_length=line[names.RESPONSE_LENGTH],
            cut=line[names.CUT],
            natural=line[names.NATURAL],
            seconds={phase: line.get(names.seconds(phase), 0.0) for phase in (*PHASES, "step")},
        )
        for line in history.updates
    ]
    return Schedule(history.name, steps)
