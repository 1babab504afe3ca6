"""How much of the outcome a prefix decides (arXiv 2602.15260, figure 3, and its mirror): statistics, without models.

==================  ===================================  ====================================================
kind                continuation                         accuracy as L grows
==================  ===================================  ====================================================
``teacher-prefix``  the student continues the teacher    rises from the student's towards the teacher's
``student-prefix``  the teacher continues the student    falls from the teacher's towards the student's
==================  ===================================  ====================================================

The accuracy that student-prefix loses by L is what the student's first L tokens decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from prefix_opd.base.errors import UserError
from prefix_opd.base.intervals import wilson
from prefix_opd.grading.statistics import bootstrap_interval, share_interval

KINDS = ("teacher-prefix", "student-prefix")
DECIDED = 0.5
NOTHING_IS_TRAINED = (
    "data.train_batch_size=1",
    "trainer.n_gpus_per_node=1",
    "trainer.nnodes=1",
    f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={2**31 - 1}",
)
"""Overrides for a config that only generates: they satisfy the checks of training settings."""


@dataclass(frozen=True)
class Point:
    """Accuracy after a prefix of ``length`` tokens."""

    length: int
    """Requested L, tokens."""
    mean_length: float
    """Mean length of the prefixes, tokens. Short answers and the margin make it less than L."""
    accuracy: float
    interval: tuple[float, float]
    """95%: Wilson's for one answer per problem, for several `share_interval`."""
    drop: tuple[float, float, float]
    """(accuracy at L=0 - accuracy at this L, low, high) on the same problems, with a 95% bootstrap over problems."""


@dataclass(frozen=True)
class Prefixes:
    """One of the two analyses."""

    kind: str
    student: str
    teacher: str
    problems: int
    samples: int
    """Answers per problem."""
    margin: int
    """Tokens at the end of the giver's answer that no prefix includes."""
    points: list[Point]
    """By length, starting at L=0."""
    giver: float
    """Accuracy of the giver's complete answers."""
    chosen: int | None = None
    """student-prefix: the L to choose (`choose_length`)."""

    @property
    def sides(self) -> tuple[str, str]:
        """(giver of the prefix, receiver that continues it)."""
        return ("teacher", "student") if self.kind == "teacher-prefix" else ("student", "teacher")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Prefixes:
        """The inverse of `as_dict`, also after JSON. Raises ValueError for other content."""
        return TypeAdapter(cls).validate_python(found)


def point(length: int, used: Sequence[int], right: Mapping[int, Sequence[bool]], before: Mapping[int, Sequence[bool]]):
    """The statistics of one length L, tokens.

    Args:
        used: length of each prefix, tokens.
        right: problem -> whether each of its answers is right.
        before: the same at L=0, for the same problems.
    """
    means = [sum(answers) / len(answers) for answers in right.values()]
    drops = [sum(before[problem]) / len(before[problem]) - mean for problem, mean in zip(right, means, strict=True)]
    accuracy, drop = sum(means) / len(means), bootstrap_interval(drops)
    found, once = share_interval(means), all(len(answers) == 1 for answers in right.values())
    interval = wilson(accuracy, len(means)) if once else (found.low, found.high)
    return Point(length, sum(used) / len(used), accuracy, interval, (drop.mean, drop.low, drop.high))


def choose_length(points: Sequence[Point], student: float) -> int | None:
    """The L to train with, by student-prefix; None if no tested L decides enough, or the teacher is not better.

    It is the smallest tested L at which the drop is at least half of the gap (teacher alone - student alone) and
    significant at 95%. A shorter prefix misses most of the student's wrong decisions. A longer one pays for tokens
    after the outcome is decided.

    Args:
        points: by length, starting at L=0.
        student: accuracy of the student alone.
    """
    gap = points[0].accuracy - student
    enough = (one.length for one in points[1:] if gap > 0 and one.drop[1] > 0 and one.drop[0] >= DECIDED * gap)
    return next(enough, None)


def default_lengths(longest: int) -> list[int]:
    """1/64 to 1/2 of the longest answer, doubled each time: 256 to 8192 for 16384, 3 to 96 for 192."""
    return sorted({max(1, longest >> halvings) for halvings in range(6, 0, -1)})


def default_margin(longest: int) -> int:
    """1/32 of the longest answer: 512 for 16384 as in the paper, 6 for 192."""
    return max(1, longest // 32)


def check_lengths(lengths: Sequence[int], longest: int) -> list[int]:
    """The lengths in order, without repetition. Raises UserError unless each is between 1 and the longest answer."""
    for length in lengths:
        if not 1 <= length < longest:
            raise UserError(f"--lengths {length}", f"must lie between 1 and {longest - 1}, below the longest answer")
    return sorted(set(lengths))
