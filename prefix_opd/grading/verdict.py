"""The grade of a response, the grader's settings, and what a batch of grades warns of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefix_opd.base.errors import UserError

EQUAL, DIFFERENT = "equal", "different"
UNFINISHED = "the thinking did not end"


@dataclass(frozen=True)
class Verdict:
    """The grade of one response.

    Example: ``Verdict(True, "\\frac{1}{2}", "equal")`` or ``Verdict(False, "", "the thinking did not end")``.
    """

    correct: bool
    extracted: str
    """The answer as the response spells it; empty where none was found."""
    reason: str
    """One short phrase for people; programs read ``correct``."""


@dataclass(frozen=True)
class GradeSettings:
    """How to grade."""

    require_think_end: bool = True
    """A response without ``</think>`` gave no answer, because the prompt opens the thinking. False: such a response is
    the answer as a whole, unless it opens the thinking itself."""
    time_limit_s: float = 5.0
    """Seconds of processor time for one symbolic comparison; beyond them its process ends and the answer is wrong."""
    max_chars: int = 10_000
    """Characters of the answer that are looked at, from its end."""
    max_answer_chars: int = 500
    """Characters of an extracted answer that are handed to the parser; a longer one counts as wrong."""
    workers: int = 2
    """Processes for symbolic comparison, at most; each starts when it is first needed."""
    memory_gib: float = 4.0
    """Address space of such a process in GiB, so that 9^(9^9) cannot take the machine's memory."""

    def __post_init__(self) -> None:
        for name in ("time_limit_s", "max_chars", "max_answer_chars", "workers", "memory_gib"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)}", "must be more than 0")


def common_refusal(reasons: Sequence[str | None]) -> str | None:
    """A warning where every graded answer of a batch was refused for one and the same reason, else None.

    Args:
        reasons: ``Verdict.reason`` of each answer; None for one that was not graded.
    """
    known = [reason for reason in reasons if reason is not None]
    if len(set(known)) != 1 or known[0] in (EQUAL, DIFFERENT):
        return None
    advice = (
        "; raise data.max_response_length, or set prefix_opd.prompt.ending=null for a model that does not think"
        if known[0] == UNFINISHED
        else ""
    )
    return f"none of the {len(known)} answers was compared with the truth, each for one reason: {known[0]}{advice}"
