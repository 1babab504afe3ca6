"""Does the tail drift? What a short prefix may do to the positions beyond it (arXiv 2602.15260, figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Bins = Mapping[int, tuple[float, int]]
"""First position of a bin -> (mean |reverse KL| of its tokens in nats, their number)."""


@dataclass(frozen=True)
class Tail:
    """The positions beyond L against the first probe. Example: ``Tail(ratio=1.8, worst=96, worst_ratio=2.5)``."""

    ratio: float
    """Mean |reverse KL| of a token now / at the first probe."""
    worst: int
    """First position of the bin that grew most."""
    worst_ratio: float


def tail_growth(now: Bins, before: Bins, prefix_length: int) -> Tail | None:
    """Compare the bins that begin at L or beyond it and have tokens in both probes; none where there is no such bin.

    A bin that L cuts through is left out, for a part of it is trained. L grows along a schedule: the same positions
    are compared, those beyond today's L.

    Args:
        now, before: of this probe and of the first.
        prefix_length: L now, tokens.
    """
    common = [first for first in now if first in before and first >= prefix_length and before[first][0] > 0]
    if not common:
        return None
    worst = max(common, key=lambda first: now[first][0] / before[first][0])
    return Tail(_mean(now, common) / _mean(before, common), worst, now[worst][0] / before[worst][0])


def _mean(bins: Bins, chosen: list[int]) -> float:
    tokens = sum(bins[first][1] for first in chosen)
    return sum(bins[first][0] * bins[first][1] for first in chosen) / tokens
