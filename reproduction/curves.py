"""The seeds of an arm together: accuracy with its band, and what a given accuracy cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefix_opd.analysis.compute import cost_to
from prefix_opd.base.intervals import wilson
from reproduction.record import Record


@dataclass(frozen=True)
class Place:
    """All seeds of an arm at one validation. Example: two seeds at 40% and 50% of 512 problems have mean 45%."""

    step: int
    accuracies: tuple[float, ...]
    """One a seed."""
    problems: int
    flops: float
    """Exact, of training up to here, mean of the seeds."""
    flops_paper: float
    seconds: float

    @property
    def mean(self) -> float:
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the mean over the problems of one seed: seeds share them, so they add none."""
        return wilson(self.mean, self.problems)

    @property
    def band(self) -> tuple[float, float]:
        """The interval, widened to the lowest and the highest seed."""
        low, high = self.interval
        return min(low, *self.accuracies), max(high, *self.accuracies)

    def above(self, other: Place) -> bool:
        """Whether this band lies wholly above the other: what the findings call higher."""
        return self.band[0] > other.band[1]


def curve(records: Sequence[Record]) -> list[Place]:
    """The validations that all these seeds of one arm have, in order."""
    if not records:
        return []
    by_step = [{point.step: point for point in record.points} for record in records]
    places = []
    for step in sorted(set.intersection(*(set(points) for points in by_step))):
        found = [points[step] for points in by_step]
        count = len(found)
        places.append(
            Place(
                step=step,
                accuracies=tuple(point.accuracy for point in found),
                problems=found[0].problems,
                flops=sum(point.flops_exact for point in found) / count,
                flops_paper=sum(point.flops_paper for point in found) / count,
                seconds=sum(point.seconds for point in found) / count,
            )
        )
    return places


def flops_to(places: Sequence[Place], accuracy: float, kind: str = "flops") -> float | None:
    """FLOP at which the mean accuracy first arrives, linear between validations; none if it never does.

    ``kind``: "flops" for exact ones, "flops_paper" for those of the paper's formula.

    >>> low, high = Place(0, (0.0,), 100, 0.0, 0.0, 0.0), Place(10, (0.4,), 100, 8.0, 8.0, 1.0)
    >>> flops_to([low, high], 0.1)
    2.0
    """
    return cost_to(accuracy, [(place.mean, getattr(place, kind)) for place in places])
