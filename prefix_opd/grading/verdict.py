"""What grading says, and what may be set about it."""

from __future__ import annotations

from dataclasses import dataclass

from prefix_opd.base.errors import UserError


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
    """Without ``</think>`` nothing was answered yet: the prompt opens the thinking, so the text is still thinking.
    False takes the whole response as the answer then, for models that do not think."""
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
