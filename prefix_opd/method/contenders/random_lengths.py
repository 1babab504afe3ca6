"""Random truncation: L is drawn from a distribution, and a weighting by 1 / P(L >= t) that undoes its bias.

A token at position t (from 1) is trained with probability P(L >= t). Its loss times 1 / P(L >= t) has the expectation
of full OPD's loss, where the token losses of a sequence are summed (``seq-mean-token-sum``). The variance grows with
1 / P, so weights are clipped, and the clipped positions are biased again. Source: the Horvitz-Thompson estimator
(1952), applied to L.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from prefix_opd.base.fields import Position, Tokens
from prefix_opd.method.schedule import ROUNDING, SCHEDULES, Need, Over, Schedule, survival
from prefix_opd.method.weighting import WEIGHTINGS, Weighting

if TYPE_CHECKING:
    from torch import Tensor


@SCHEDULES.register("random")
class RandomLengths(Over):
    """L of each rollout from a distribution over [least, top]. Its upper end may grow to the maximum."""

    each_rollout = True
    bounded = ("maximum", "least", "top")

    least: Tokens = 8
    """Shortest L, tokens."""
    top: Tokens | None = None
    """Upper end at step 1, tokens. It grows by a constant factor per step to the maximum, at step ``over``; null: the
    maximum from the first step on."""
    distribution: Literal["log_uniform", "uniform"] = "log_uniform"
    """Distribution of L. log_uniform: uniform in log L."""
    shared_by: Literal["rollout", "update"] = "rollout"
    """rollout: each rollout has its own L, stratified over the update. update: all rollouts of an update have one L."""
    seed: Position = 0
    """Seed of the draws. They depend only on it and on the step, so a resumed run draws the same L."""

    @model_validator(mode="after")
    def _in_order(self) -> RandomLengths:
        for name, end in (("top", self.top), ("maximum", self.maximum)):
            if end is not None and end < self.least:
                raise ValueError(f"{name}={end} is below least={self.least}; raise the one or lower the other")
        return self

    def prefix_lengths(self, step: int, longest: int, rows: int) -> list[float]:
        draw = random.Random(f"{self.seed}/{step}")
        top = self._top(step, longest)
        if self.shared_by == "update":
            return [self._quantile(draw.random(), top)] * rows
        strata = draw.sample(range(rows), rows)  # one draw in each of the rows quantiles, in random order
        return [self._quantile((stratum + draw.random()) / rows, top) for stratum in strata]

    def survival(self, step: int, longest: int) -> list[float]:
        top = self._top(step, longest)
        return [1.0 - self._share_below(t, top) if t <= top else 0.0 for t in range(1, longest + 1)]

    def extremes(self, step: int, longest: int) -> tuple[float, float]:
        return min(self.least, longest), self._top(step, longest)

    def _top(self, step: int, longest: int) -> int:
        first = longest if self.top is None else min(self.top, longest)
        return math.floor(first * (longest / first) ** self.progress(step) + ROUNDING)

    # A length is floor(x) with x in [least, top + 1), so that P(L = top) is not 0.

    def _quantile(self, share: float, top: int) -> float:
        low, high = min(self.least, top), top + 1
        return low + share * (high - low) if self.distribution == "uniform" else low * (high / low) ** share

    def _share_below(self, t: int, top: int) -> float:
        """P(L < t)."""
        low, high = min(self.least, top), top + 1
        if self.distribution == "uniform":
            return max(0.0, (t - low) / (high - low))
        return max(0.0, math.log(t / low) / math.log(high / low))


@SCHEDULES.register("auto")
class Auto(RandomLengths):
    """`random` with its defaults, for a loss over the teacher's top tokens.

    Source: ours. Of the schedules compared on both miniatures it needs the least FLOP (docs/schedules.md).
    """

    def needs(self) -> set[Need]:
        return {"topk"}


@WEIGHTINGS.register("inverse_probability")
class InverseProbability(Weighting):
    """Weight 1 / P(L >= t) of each position, clipped. For a schedule that draws L at random."""

    largest: Annotated[float, Field(ge=1)] = 8.0
    """Upper bound of a weight. Positions with P(L >= t) below 1 / largest count less than in full OPD."""
    _weights: tuple[float, ...] = ()

    def at(self, schedule: Schedule, step: int, response_length: int) -> InverseProbability:
        shares = survival(schedule, step, response_length)
        if shares is None:
            raise ValueError("needs a schedule that draws L at random")
        made = self.model_copy()
        made._weights = tuple(min(self.largest, 1 / share) if share else self.largest for share in shares)
        return made

    def weights(self, positions: Tensor, lengths: Tensor) -> Tensor:
        import torch

        return torch.tensor(self._weights, device=positions.device)[positions.clamp_max(len(self._weights) - 1)]

    def counted(self, length: float) -> float:
        return length
