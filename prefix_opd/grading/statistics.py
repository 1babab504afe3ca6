"""Statistics over several samples per problem.

Symbols: ``n`` samples of a problem, ``c`` correct samples, ``k`` samples of a metric.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefix_opd.base.intervals import wilson

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean over problems with its bootstrap interval. Example: ``Interval(0.55, 0.31, 0.78)``."""

    mean: float
    low: float
    high: float


def mean_at_k(correct: Sequence[bool]) -> float:
    """Share of correct samples of one problem with k samples."""
    if not correct:
        raise ValueError("mean_at_k: no samples")
    return sum(map(bool, correct)) / len(correct)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that k of n samples, drawn without replacement, include a correct one: 1 - C(n-c, k) / C(n, k).

    This is the unbiased estimator of Chen et al. 2021 (arXiv 2107.03374).
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass_at_k: need 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def maj_at_k(answers: Sequence[str], correct: Sequence[bool]) -> float:
    """Score of the most frequent answer in the k samples of one problem.

    Empty answers do not vote; without votes the score is 0. In a tie the score is the mean over the tied answers, which
    is the expected score of a random choice. The score of an answer is the share of its samples that were graded as
    correct, because two spellings of one answer may have different grades.
    """
    if len(answers) != len(correct):
        raise ValueError(f"maj_at_k: {len(answers)} answers and {len(correct)} grades")
    if not answers:
        raise ValueError("maj_at_k: no samples")
    votes = Counter(answer for answer in answers if answer)
    if not votes:
        return 0.0
    most = max(votes.values())
    leaders = [answer for answer, count in votes.items() if count == most]
    rights = Counter(answer for answer, right in zip(answers, correct, strict=True) if right)
    return sum(rights[answer] / most for answer in leaders) / len(leaders)


def share_interval(shares: Sequence[float]) -> Interval:
    """95% interval of the mean of each problem's share of right answers: by `bootstrap_interval`.

    Where no answer is right, or each one is, the bootstrap has no width. Then it is Wilson's over the problems: 30
    problems without a right answer give 0 to 11.4%.
    """
    if set(shares) in ({0.0}, {1.0}):
        return Interval(shares[0], *wilson(shares[0], len(shares)))
    return bootstrap_interval(shares)


def bootstrap_interval(values: Sequence[float]) -> Interval:
    """95% percentile bootstrap of the mean over problems; the same values give the same interval.

    Whole problems are drawn with replacement, because the samples of one problem are not independent. The interval
    covers the choice of problems, not the training seed. ``values``: one per problem, e.g. its ``mean_at_k``.
    """
    figures = np.asarray(values, dtype=np.float64)
    if figures.ndim != 1 or figures.size == 0:
        raise ValueError(f"bootstrap_interval: need one value per problem, got shape {figures.shape}")
    generator, means = np.random.default_rng(0), np.empty(RESAMPLES)
    for i in range(RESAMPLES):  # one draw at a time bounds memory
        means[i] = figures[generator.integers(0, figures.size, figures.size)].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(figures.mean()), float(low), float(high))
