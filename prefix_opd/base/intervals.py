"""Confidence intervals of a proportion."""

from __future__ import annotations

import math


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion, within [0, 1]; (0, 1) for n = 0.

    Args:
        share: the observed proportion, 0 to 1, of ``n`` trials.
        z: quantile of the normal distribution; 1.96 for 95%.
    """
    if not n:
        return 0.0, 1.0
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)
