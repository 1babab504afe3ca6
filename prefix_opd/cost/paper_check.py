"""Which of the paper's FLOP figures follow from its formula, and what the others would need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from prefix_opd.cost import arithmetic as cost
from prefix_opd.cost.arithmetic import ResponseLengths
from prefix_opd.cost.models import shipped_config
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.paper import FLOP_ROWS, FULL_LENGTH, ROLLOUTS, STUDENTS, TEACHER, FlopRow
from prefix_opd.method.schedule import SCHEDULES, prefix_lengths


@dataclass(frozen=True)
class PaperCheck:
    """A FLOP figure of the paper beside the formula's, with every rollout at its cap."""

    row: FlopRow
    ours: float
    fits: bool
    """Within 10%."""
    why: str

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self.row), "ours": self.ours, "fits": self.fits, "why": self.why}


def check_paper() -> list[PaperCheck]:
    return [_check(row) for row in FLOP_ROWS]


def _check(row: FlopRow) -> PaperCheck:
    ours = _paper_run(row, row.updates, ResponseLengths())
    if abs(ours / row.flop - 1) <= 0.10:
        return PaperCheck(row, ours, True, row.note)
    if ours < row.flop:
        return PaperCheck(row, ours, False, "above the cost of every rollout at its cap")
    mean = _solve(lambda length: _paper_run(row, row.updates, ResponseLengths(((length, 1.0),))), row.flop, FULL_LENGTH)
    at_cap = next(n for n in range(1, row.updates + 1) if _paper_run(row, n, ResponseLengths()) >= row.flop)
    why = f"needs rollouts of about {mean:.0f} tokens in {row.updates} updates, or {at_cap} updates at the cap"
    return PaperCheck(row, ours, False, "; ".join(filter(None, (why, row.note))))


def _paper_run(row: FlopRow, updates: int, responses: ResponseLengths) -> float:
    student, teacher = (ModelShape.from_config(shipped_config(name) or {}) for name in (STUDENTS[row.size], TEACHER))
    schedule = SCHEDULES.build(row.schedule)
    lengths = [prefix_lengths(schedule, step, 1, FULL_LENGTH)[0] for step in range(1, updates + 1)]
    steps = (cost.step_flops(student, teacher, 1, responses.capped(length), ROLLOUTS) for length in lengths)
    return sum(step["paper"].total for step in steps)


def _solve(rising: Callable[[float], float], target: float, high: float) -> float:
    """The argument at which an increasing function reaches ``target``, by bisection."""
    low = 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return high
