"""What the lines of ``metrics.jsonl`` add up to: costs so far, and validations. The one reader of a run's ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefix_opd.method import names
from prefix_opd.run.log import read_metrics


@dataclass(frozen=True)
class Spent:
    """What training took up to a step, validation and start-up left out."""

    flops: float = 0.0
    """Exact."""
    paper_flops: float = 0.0
    """By the paper's accounting."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Validation:
    """One validation, as the metrics have it."""

    step: int
    scores: dict[str, tuple[float, int]]
    """Data set -> (share of right answers, k samples a problem)."""
    mean_length: float | None
    """Tokens of an answer."""
    spent: Spent
    is_whole: bool
    """Whether every answer came back. The accuracy of the others is not to be compared."""

    @property
    def accuracy(self) -> float:
        """Share of right answers, mean over data sets."""
        return sum(share for share, _ in self.scores.values()) / len(self.scores)


def with_costs(lines: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Spent]]:
    """Each line, and what training took up to it."""
    spent = Spent()
    for line in lines:
        spent = Spent(
            flops=line.get(names.FLOPS, spent.flops),
            paper_flops=line.get(names.FLOPS_PAPER, spent.paper_flops),
            seconds=spent.seconds + line.get(names.SECONDS_STEP, 0.0),
        )
        yield line, spent


def validations(lines: Iterable[Mapping[str, Any]]) -> Iterator[Validation]:
    """The validations among the lines of a run, in order."""
    for line, spent in with_costs(lines):
        if scores := names.accuracies(line):
            lengths = names.validation_lengths(line)
            mean_length = sum(lengths) / len(lengths) if lengths else None
            is_whole = line.get(names.VALIDATION_MISSING, 0) <= 0
            yield Validation(line["step"], scores, mean_length, spent, is_whole)


def accuracies(run: Path) -> dict[int, float]:
    """Accuracy by step, of the validations from which no answer was missing."""
    return {one.step: one.accuracy for one in validations(read_metrics(run)) if one.is_whole}


def last_step(run: Path) -> int:
    """The last step that has a line; -1 where none has."""
    return max((line["step"] for line in read_metrics(run)), default=-1)
