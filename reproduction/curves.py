"""Accuracy with its band, and cost, over the seeds of an arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefix_opd.base.intervals import wilson
from reproduction.record import Point, Record


@dataclass(frozen=True)
class Place:
    """All seeds of an arm at one validation. Example: two seeds at 40% and 50% of 512 problems have mean 45%."""

    step: int
    accuracies: tuple[float, ...]
    """One per seed."""
    problems: int
    flops: float
    """Exact training FLOP up to here, mean of the seeds."""
    flops_paper: float
    seconds: float

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the mean. n is the problems of one seed, because the seeds share their problems."""
        return wilson(self.accuracy, self.problems)

    @property
    def band(self) -> tuple[float, float]:
        """The interval, widened to the lowest and the highest seed."""
        low, high = self.interval
        return min(low, *self.accuracies), max(high, *self.accuracies)

    def above(self, other: Place) -> bool:
        """Whether this band lies entirely above the other, which the findings call higher."""
        return self.band[0] > other.band[1]


def curve(records: Sequence[Record]) -> list[Place]:
    """The validations that all seeds of one arm have, in order."""
    if not records:
        return []
    by_step = [{point.step: point for point in record.points} for record in records]
    steps = sorted(set.intersection(*(set(points) for points in by_step)))
    return [_place([points[step] for points in by_step]) for step in steps]


def _place(points: Sequence[Point]) -> Place:
    def mean(name: str) -> float:
        return sum(getattr(point, name) for point in points) / len(points)

    accuracies = tuple(point.accuracy for point in points)
    costs = mean("flops_exact"), mean("flops_paper"), mean("seconds")
    return Place(points[0].step, accuracies, points[0].problems, *costs)
