"""How much of the outcome a prefix decides (arXiv 2602.15260, figure 3, and its mirror): the figures, no model.

``teacher-prefix``: the student goes on from the teacher's first L tokens. Accuracy rises from the student's own (L=0)
towards the teacher's. ``student-prefix``: the teacher goes on from the student's first L tokens. Accuracy falls from
the teacher's own towards the student's: what it has lost by L is what the student's first L tokens decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from prefix_opd.base.errors import UserError
from prefix_opd.base.intervals import wilson
from prefix_opd.grading.statistics import bootstrap_interval

KINDS = ("teacher-prefix", "student-prefix")
DECIDED = 0.5
NOTHING_IS_TRAINED = (
    "data.train_batch_size=1",
    "trainer.n_gpus_per_node=1",
    "trainer.nnodes=1",
    f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={2**31 - 1}",
)
"""Overrides by which nothing of training stands in the way of a config that only generates."""


@dataclass(frozen=True)
class Point:
    """Accuracy after a prefix of ``length`` tokens."""

    length: int
    """L that was asked for, tokens."""
    mean_length: float
    """L that was used: a shorter answer gives a shorter prefix, and the margin keeps its end out."""
    accuracy: float
    interval: tuple[float, float]
    """95%: Wilson's for one answer a problem, a bootstrap over problems for several."""
    drop: tuple[float, float, float]
    """Accuracy at L=0 minus here, on the same problems, and its 95% bootstrap interval over problems."""


@dataclass(frozen=True)
class Prefixes:
    """One of the two analyses."""

    kind: str
    student: str
    teacher: str
    problems: int
    samples: int
    """Answers a problem."""
    margin: int
    """Tokens at the end of the giver's answer that no prefix reaches into."""
    points: list[Point]
    """By length, the first with none."""
    giver: float
    """Accuracy of the answers that the prefixes were taken from."""
    chosen: int | None = None
    """student-prefix: the L to choose (`choose_length`)."""

    @property
    def sides(self) -> tuple[str, str]:
        """Who gave the prefix, and who went on from it."""
        return ("teacher", "student") if self.kind == "teacher-prefix" else ("student", "teacher")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Prefixes:
        """What `as_dict` gave, also by way of JSON. Raises ValueError for anything else."""
        return TypeAdapter(cls).validate_python(found)


def point(length: int, used: Sequence[int], right: Mapping[int, Sequence[bool]], before: Mapping[int, Sequence[bool]]):
    """The figures of one length.

    Args:
        length: L, tokens.
        used: tokens of each prefix that was given.
        right: problem -> whether each of its answers is right; the same problems in ``before``, which has no prefix.
    """
    means = [sum(right[problem]) / len(right[problem]) for problem in right]
    drops = [sum(before[problem]) / len(before[problem]) - mean for problem, mean in zip(right, means, strict=True)]
    accuracy, drop = sum(means) / len(means), bootstrap_interval(drops)
    if all(len(answers) == 1 for answers in right.values()):
        interval = wilson(accuracy, len(means))
    else:
        found = bootstrap_interval(means)
        interval = (found.low, found.high)
    return Point(length, sum(used) / len(used), accuracy, interval, (drop.mean, drop.low, drop.high))


def choose_length(points: Sequence[Point], student: float) -> int | None:
    """The L that a pair should be trained with, by student-prefix.

    The smallest tested L by which the student's first tokens have cost the teacher at least half of the gap between
    the two (teacher alone minus student alone), the loss being beyond its 95% interval. A shorter prefix leaves out
    most of the decisions that the student gets wrong; a longer one pays for tokens whose outcome is settled.

    Args:
        points: by length, the first without a prefix.
        student: accuracy of the student alone.

    Returns:
        L in tokens; none where no tested length decides that much, or the teacher is not better.
    """
    gap = points[0].accuracy - student
    for one in points[1:]:
        drop, low, _ = one.drop
        if gap > 0 and low > 0 and drop >= DECIDED * gap:
            return one.length
    return None


def default_lengths(longest: int) -> list[int]:
    """Sixty-fourths of the longest answer, doubled up to a half: 256 to 8192 of 16384, 3 to 96 of 192."""
    return sorted({max(1, longest >> halvings) for halvings in range(6, 0, -1)})


def default_margin(longest: int) -> int:
    """A thirty-second of the longest answer: the paper's 512 of 16384, 6 of 192."""
    return max(1, longest // 32)


def check_lengths(lengths: Sequence[int], longest: int) -> list[int]:
    """Positive, below the longest answer, in order. Raises UserError."""
    for length in lengths:
        if not 1 <= length < longest:
            raise UserError(f"--lengths {length}", f"must lie between 1 and {longest - 1}, below the longest answer")
    return sorted(set(lengths))
