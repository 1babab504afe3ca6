"""L, what decided about it, lengths, endings and seconds of a run, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from prefix_opd.method import names
from prefix_opd.method.names import PHASES
from prefix_opd.run.history import History


@dataclass(frozen=True)
class Step:
    step: int
    prefix_length: Annotated[int, Field(serialization_alias="cap")]
    """L, tokens; ``cap`` in the file."""
    mean_length: float
    """Tokens of a rollout."""
    cut: float
    """Share of rollouts that reached L."""
    natural: float
    """Share of rollouts that ended with a stop token."""
    seconds: dict[str, float]
    """By phase; ``step`` is the whole update without validation."""
    signal: float | None = None
    """What decided about L in this update, where the schedule adapts and the update had it."""
    threshold: float | None = None


@dataclass(frozen=True)
class Schedule:
    """All updates of a run."""

    name: str
    steps: list[Step]

    @property
    def adapts(self) -> bool:
        """Whether a step has a signal."""
        return any(one.signal is not None for one in self.steps)

    def as_dict(self) -> dict[str, Any]:
        return TypeAdapter(Schedule).dump_python(self, by_alias=True, exclude_none=True)


def schedule(history: History) -> Schedule:
    steps = [
        Step(
            step=line["step"],
            prefix_length=int(line[names.PREFIX_LENGTH]),
            mean_length=line[names.RESPONSE_LENGTH],
            cut=line[names.CUT],
            natural=line[names.NATURAL],
            seconds={phase: line.get(names.seconds(phase), 0.0) for phase in (*PHASES, "step")},
            signal=line.get(names.SIGNAL),
            threshold=line.get(names.THRESHOLD),
        )
        for line in history.updates
    ]
    return Schedule(history.name, steps)
