"""Cumulative costs and validations from the lines of ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from prefix_opd.base.intervals import wilson
from prefix_opd.method import names
from prefix_opd.run.log import read_metrics


@dataclass(frozen=True)
class Spent:
    """Cost of training up to a step, without validation and start-up."""

    flops: float = 0.0
    """Exact FLOP."""
    paper_flops: float = 0.0
    """FLOP by the paper's accounting."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """One validation, with all its answers. The answers are not cut at L."""

    step: int
    accuracy: float
    """Share of right answers: mean over problems and samples, then over data sets."""
    mean_length: float | None
    """Tokens of an answer."""
    flops: float
    """Exact training FLOP so far."""
    paper_flops: float
    """Training FLOP so far by the paper's accounting."""
    seconds: float
    """Seconds of training steps so far, without validation and start-up."""
    scores: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Data set -> (share of right answers, k samples per problem)."""
    samples: int = 0
    """Number of graded answers in verl's file; `validations` does not read it."""
    over_problems: tuple[float, float] | None = None
    """95% interval over problems, where each has several answers."""
    of_shares: bool = True
    """Whether every score lies between 0 and 1; a grader of the user's may give others."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the accuracy: over problems, or Wilson's for one answer per problem.

        None for several data sets: verl's file of answers does not name the data set of an answer. None for scores
        that are no shares.
        """
        if len(self.scores) > 1 or not (self.of_shares and 0 <= self.accuracy <= 1):
            return None
        return self.over_problems or wilson(self.accuracy, self.samples)


def with_costs(lines: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Spent]]:
    """Each line with the cost of training up to it."""
    spent = Spent()
    for line in lines:
        spent = Spent(
            flops=line.get(names.FLOPS, spent.flops),
            paper_flops=line.get(names.FLOPS_PAPER, spent.paper_flops),
            seconds=spent.seconds + line.get(names.SECONDS_STEP, 0.0),
        )
        yield line, spent


def validations(lines: Iterable[Mapping[str, Any]]) -> Iterator[Evaluation]:
    """The complete validations. Where answers are missing, long ones are: the mean of the others is biased."""
    for line, spent in with_costs(lines):
        scores = names.accuracies(line)
        if scores and line.get(names.VALIDATION_MISSING, 0) <= 0:
            lengths = names.validation_lengths(line)
            yield Evaluation(
                step=line["step"],
                accuracy=fmean(share for share, _ in scores.values()),
                mean_length=fmean(lengths) if lengths else None,
                **asdict(spent),
                scores=scores,
            )


def accuracies(run: Path) -> dict[int, float]:
    """Step -> accuracy, for each complete validation."""
    return {one.step: one.accuracy for one in validations(read_metrics(run))}


def last_step(run: Path) -> int:
    """The last step with metrics; -1 where there is none."""
    return max((line["step"] for line in read_metrics(run)), default=-1)
