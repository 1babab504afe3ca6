"""Medians with quartiles, and least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    count: int
    """Measurements."""


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles. Raises ValueError without values."""
    if not len(values):
        raise ValueError("no values: there is no median")
    low, median, high = np.percentile(values, [25, 50, 75])
    return Spread(float(median), float(low), float(high), len(values))


@dataclass(frozen=True)
class Line:
    """y = fixed + slope x, by least squares."""

    fixed: float
    slope: float
    r_squared: float

    @property
    def even(self) -> float | None:
        """The x at which the variable part equals the fixed one; none unless both are positive."""
        return self.fixed / self.slope if self.slope > 0 and self.fixed > 0 else None


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Raises ValueError if x holds fewer than two different values."""
    if len(set(x)) < 2:
        raise ValueError(f"no line through {len(set(x))} different x")
    slope, fixed = np.polyfit(x, y, deg=1)
    residual = float(np.sum((np.asarray(y) - (fixed + slope * np.asarray(x))) ** 2))
    total = float(np.sum((np.asarray(y) - np.mean(y)) ** 2))
    return Line(float(fixed), float(slope), 1 - residual / total if total else 1.0)
