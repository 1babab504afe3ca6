"""The grade of a response, the grader's settings, and a warning about a batch of grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, StrictBool

from prefix_opd.base.fields import Fields, Seconds

Whole = Annotated[int, Field(ge=1)]
EQUAL, DIFFERENT = "equal", "different"
UNFINISHED = "the thinking did not end"


@dataclass(frozen=True)
class Verdict:
    """The grade of one response.

    Example: ``Verdict(True, "\\frac{1}{2}", "equal")`` or ``Verdict(False, "", "the thinking did not end")``.
    """

    correct: bool
    extracted: str
    """The answer as spelt in the response; empty if none was found."""
    reason: str
    """A short phrase for people; programs use ``correct``."""


class GradeSettings(Fields):
    """Rules and limits of grading."""

    require_think_end: StrictBool = True
    """True: the prompt opens the thinking, so a response without ``</think>`` has no answer. False: such a response is
    an answer as a whole, unless it opens the thinking itself."""
    time_limit_s: Seconds = 5.0
    """Limit of processor time for one symbolic comparison, seconds. The answer is wrong if the limit is reached."""
    max_chars: Whole = 10_000
    """Number of characters at the end of the response that are read."""
    max_answer_chars: Whole = 500
    """Maximum length of an extracted answer. A longer answer is wrong."""
    workers: Whole = 2
    """Maximum number of processes for symbolic comparison. Each starts when it is needed."""
    memory_gib: Annotated[float, Field(gt=0)] = 4.0
    """Limit of the address space of such a process, GiB, because 9^(9^9) would use all memory."""


def common_refusal(reasons: Sequence[str | None], longest: str = "data.max_response_length") -> str | None:
    """A warning if all graded answers of a batch were rejected for the same reason, else None.

    Args:
        reasons: ``Verdict.reason`` of each answer; None for an ungraded answer.
        longest: the setting of the longest answer.
    """
    known = [reason for reason in reasons if reason is not None]
    if len(set(known)) != 1 or known[0] in (EQUAL, DIFFERENT):
        return None
    advice = (
        f"; raise {longest}, or set prefix_opd.prompt.thinking=off for a model that does not think"
        if known[0] == UNFINISHED
        else ""
    )
    return f"all {len(known)} answers were rejected for the same reason: {known[0]}{advice}"
