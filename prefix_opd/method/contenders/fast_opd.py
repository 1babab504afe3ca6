"""Adaptive FastOPD: L grows once learning at its end stands still (arXiv 2607.29494).

Published: signals of teacher and student in the boundary region [L - increment, L), relative to their means just
after L was reached; their largest logarithm, smoothed; growth by ``increment`` after ``patience`` updates without a
new low, if enough rollouts use the length. Chosen here: one signal in place of four, |reverse KL| of the sampled
tokens, because the published ones need the top k of both models and a sampled mean of the reverse KL can be below 0;
the share of rollouts that reach L as the measure of use; the default values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Annotated

from pydantic import Field

from prefix_opd.base.fields import Tokens
from prefix_opd.method import names
from prefix_opd.method.contenders.growth import GrowsBySignal
from prefix_opd.method.schedule import SCHEDULES, Need

LEAST = 1e-4
"""Lower bound of the signal, nats: the score is its logarithm."""


@SCHEDULES.register("fast_opd")
class FastOPD(GrowsBySignal):
    """L grows once |reverse KL| near its end no longer falls (arXiv 2607.29494)."""

    increment: Tokens = 256
    """Growth of L each time that it grows, tokens."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.7
    """Weight of the past in the moving average of the score."""
    entry: Tokens = 2
    """The score is relative to the mean of this many updates after L has grown."""
    hit: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Least share of rollouts that must reach L before it grows."""
    _entered: list[float] = []
    _score: float | None = None
    _lowest: float | None = None

    def needs(self) -> set[Need]:
        return {"scores"}

    def grown(self, length: float) -> float:
        return length + self.increment

    def signal_of(self, metrics: Mapping[str, float]) -> tuple[float, float | None] | None:
        """The smoothed score, and its lowest value so far."""
        found = boundary(metrics, self.length - self.increment, self.length)
        if found is None or len(self._entered) < self.entry:
            return None
        now = math.log(found / fmean(self._entered))
        score = now if self._score is None else self.smoothing * self._score + (1 - self.smoothing) * now
        return score, self._lowest

    def is_due(self, signal: float, threshold: float | None, metrics: Mapping[str, float]) -> bool | None:
        self._score = signal
        if threshold is None or signal < threshold:
            self._lowest = signal
            return False
        return True if metrics[names.CUT] >= self.hit else None

    def observe(self, metrics: Mapping[str, float]) -> None:
        if len(self._entered) < self.entry:
            if found := boundary(metrics, self.length - self.increment, self.length):
                self._entered = [*self._entered, found]
            return
        before = self.length
        super().observe(metrics)
        if self.length != before:
            self._entered, self._score, self._lowest = [], None, None


def boundary(metrics: Mapping[str, float], low: float, high: float) -> float | None:
    """Mean |reverse KL| of a token in the bins from ``low`` to ``high``, or in the last before."""
    magnitudes, counts = (names.bins(metrics, prefix) for prefix in names.by_position("all")[1:])
    below = [first for first in counts if first < high and first in magnitudes]
    if not below:
        return None
    chosen = [first for first in below if first >= low] or [max(below)]
    tokens = sum(counts[first] for first in chosen)
    return max(LEAST, sum(magnitudes[first] * counts[first] for first in chosen) / tokens)
