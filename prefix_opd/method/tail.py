"""Detects drift of the positions beyond a short prefix (arXiv 2602.15260, figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Bins = Mapping[int, tuple[float, int]]
"""First position of a bin -> (mean |reverse KL| per token in nats, number of tokens)."""


@dataclass(frozen=True)
class Tail:
    """Growth beyond L since the first probe. Example: ``Tail(ratio=1.8, worst=96, worst_ratio=2.5)``."""

    ratio: float
    """Mean |reverse KL| per token now / at the first probe."""
    worst: int
    """First position of the bin with the largest growth."""
    worst_ratio: float


def tail_growth(now: Bins, before: Bins, prefix_length: int) -> Tail | None:
    """Compare the bins that start at or beyond the current L and have tokens in both probes.

    A bin that contains L is left out, because part of it is trained. Both probes use the same bins, even if L was
    shorter at the first one.

    Args:
        now, before: bins of this probe and of the first.
        prefix_length: L now, tokens.

    Returns:
        The growth; None without such a bin.
    """
    common = [first for first in now if first in before and first >= prefix_length and before[first][0] > 0]
    if not common:
        return None
    worst = max(common, key=lambda first: now[first][0] / before[first][0])
    return Tail(_mean(now, common) / _mean(before, common), worst, now[worst][0] / before[worst][0])


def _mean(bins: Bins, chosen: list[int]) -> float:
    tokens = sum(bins[first][1] for first in chosen)
    return sum(bins[first][0] * bins[first][1] for first in chosen) / tokens
