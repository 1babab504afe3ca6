"""Figures over several samples of each problem: pure functions.

Symbols: ``n`` samples of a problem, ``c`` of them correct, ``k`` samples of a metric.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean over problems with its bootstrap interval. Example: ``Interval(0.55, 0.31, 0.78)``."""

    mean: float
    low: float
    high: float


def mean_at_k(correct: Sequence[bool]) -> float:
    """Share of one problem's samples that are correct; k is their number."""
    if not correct:
        raise ValueError("mean_at_k: no samples")
    return sum(map(bool, correct)) / len(correct)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of the n samples, drawn without replacement, hold a correct one: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374).
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass_at_k: need 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def maj_at_k(answers: Sequence[str], correct: Sequence[bool]) -> float:
    """Score of the most frequent answer of one problem's k samples.

    An empty answer does not vote; where nobody votes the score is 0. Answers that tie share the vote: the score is the
    share of them that is correct, which is what breaking ties at random gives on average. An answer counts as correct
    in the share of its samples that were graded so, for two spellings of it may have been graded apart.
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


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean over problems.

    Problems are drawn with replacement, each with all its samples, because the samples of one problem are not
    independent of each other. The interval says how far another draw of problems would move the mean; it says nothing
    of another training seed.

    Args:
        values: one figure per problem, e.g. ``mean_at_k`` of each.
        level: share of the resampled means inside the interval, between 0 and 1.
        resamples: how often the problems are drawn.
        seed: the same seed gives the same interval.
    """
    figures = np.asarray(values, dtype=np.float64)
    if figures.ndim != 1 or figures.size == 0:
        raise ValueError(f"bootstrap_interval: need one value per problem, got shape {figures.shape}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"bootstrap_interval: level={level} must lie between 0 and 1")
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(resamples):  # one draw at a time: all at once would hold resamples x problems numbers
        means[i] = figures[generator.integers(0, figures.size, figures.size)].mean()
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(figures.mean()), float(low), float(high))
