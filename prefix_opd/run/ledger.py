"""Cumulative costs and validations from the lines of ``metrics.jsonl``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
class Validation:
    """One validation, from the metrics."""

    step: int
    scores: dict[str, tuple[float, int]]
    """Data set -> (share of right answers, k samples per problem)."""
    mean_length: float | None
    """Tokens of an answer."""
    spent: Spent
    is_whole: bool
    """Whether no answer is missing. Do not compare the accuracy of an incomplete validation."""

    @property
    def accuracy(self) -> float:
        """Share of right answers: mean over data sets."""
        return sum(share for share, _ in self.scores.values()) / len(self.scores)


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


def validations(lines: Iterable[Mapping[str, Any]]) -> Iterator[Validation]:
    """The validations in the lines of a run, in order."""
    for line, spent in with_costs(lines):
        if scores := names.accuracies(line):
            lengths = names.validation_lengths(line)
            mean_length = sum(lengths) / len(lengths) if lengths else None
            is_whole = line.get(names.VALIDATION_MISSING, 0) <= 0
            yield Validation(line["step"], scores, mean_length, spent, is_whole)


def accuracies(run: Path) -> dict[int, float]:
    """Step -> accuracy, for each complete validation."""
    return {one.step: one.accuracy for one in validations(read_metrics(run)) if one.is_whole}


def last_step(run: Path) -> int:
    """The last step with metrics; -1 where there is none."""
    return max((line["step"] for line in read_metrics(run)), default=-1)
