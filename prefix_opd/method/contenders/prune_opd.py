"""Prune-OPD: tokens after drift count less, and L follows the length of reliable rollouts (arXiv 2605.07804).

Published: a position is bad where student and teacher share too few of their top-k tokens; each bad position lowers
the weight of its token and of all later ones by a fixed step; a constant is added to the weights; L grows where
enough rollouts reach it reliably, and shrinks otherwise, with a margin and patience. Chosen here: a position is bad
where the teacher's probability of the sampled token is below ``accept``, because overlap needs the top k of both
models; the way L shrinks. ``drop`` and ``base`` are the published values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from prefix_opd.base.fields import Position, Tokens
from prefix_opd.method import names
from prefix_opd.method.contenders.growth import Adaptive
from prefix_opd.method.objective import OBJECTIVES, PrefixOPD
from prefix_opd.method.schedule import SCHEDULES, Need

if TYPE_CHECKING:
    from torch import Tensor


@OBJECTIVES.register("prune_opd")
class PruneOPD(PrefixOPD):
    """The paper's loss times a weight that falls with each token that the teacher finds unlikely (2605.07804)."""

    label = "reverse KL, pruned by drift"
    estimates_reverse_kl = False
    reports_drift = True

    drop: Annotated[float, Field(gt=0, le=1)] | None = None
    """prune_opd: step by which a bad token lowers its weight and that of all later tokens; null: 0.01."""
    base: Annotated[float, Field(ge=0)] | None = None
    """prune_opd: constant that is added to each weight; null: 0.5."""
    accept: Annotated[float, Field(gt=0, lt=1)] | None = None
    """prune_opd: the teacher's probability of a sampled token, below which the token is bad; null: 0.05."""

    def reliability(self, log_q: Tensor, mask: Tensor) -> Tensor:
        """(B, T) weights from 1 down to 0, before the constant."""
        bad = (log_q < math.log(0.05 if self.accept is None else self.accept)) & mask.bool()
        return (1 - (0.01 if self.drop is None else self.drop) * bad.cumsum(-1)).clamp_min(0)

    def advantage(self, log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
        weights = self.reliability(log_q, mask) + (0.5 if self.base is None else self.base)
        return weights * super().advantage(log_p, log_q, mask)

    def metrics(self, log_p: Tensor, log_q: Tensor, mask: Tensor, prefix_lengths: Tensor) -> dict[str, float]:
        reliable = ((self.reliability(log_q, mask) > 0) & mask.bool()).sum(-1)
        return {
            "prefix_opd/reliable_length/mean": reliable.float().mean().item(),
            names.RELIABLE_MAX: float(reliable.max()),
            names.RELIABLE_REACHED: (reliable >= prefix_lengths).float().mean().item(),
        }


@SCHEDULES.register("prune_opd")
class PrunedLength(Adaptive):
    """L grows while enough rollouts are reliable up to it, and shrinks otherwise (2605.07804)."""

    bounded = ("maximum", "start", "least")

    increment: Tokens = 256
    """Growth of L each time that it grows, tokens."""
    least: Tokens = 8
    """Shortest L, tokens."""
    hit: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Least share of rollouts that must reach L before it grows."""
    margin: Position = 100
    """L shrinks to the longest reliable length plus this many tokens."""
    patience: Tokens = 3
    """Number of observations in a row that must call for a shorter L; a longer L needs one."""
    _streak: int = 0

    def needs(self) -> set[Need]:
        return {"drift"}

    @property
    def length(self) -> float:
        return max(super().length, self.least)

    def signal_of(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        return metrics[names.RELIABLE_REACHED], self.hit

    def observe(self, metrics: Mapping[str, float]) -> None:
        if metrics[names.RELIABLE_REACHED] >= self.hit:
            self._streak = 0
            if self.length <= metrics[names.PREFIX_LENGTH]:  # not yet at the maximum
                self._length = self.length + self.increment
            return
        self._streak += 1
        if self._streak >= self.patience:
            self._length = max(self.least, min(self.length, int(metrics[names.RELIABLE_MAX]) + self.margin))
            self._streak = 0

    def extremes(self, step: int, longest: int) -> tuple[float, float]:
        first = max(self.start, self.least)
        return (first if step == 1 else self.least), first + self.increment * (step - 1)
