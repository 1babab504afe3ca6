"""IW-OPD: tokens count less the more of a rollout's discrepancy lies before them (arXiv 2606.22600, algorithm 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from prefix_opd.method.objective import OBJECTIVES, PrefixOPD

if TYPE_CHECKING:
    from torch import Tensor


@OBJECTIVES.register("iw_opd")
class ImportanceWeighted(PrefixOPD):
    """The paper's loss times 1 + gamma (1 - F), F the share of |log-ratio| before the token (arXiv 2606.22600)."""

    label = "reverse KL, weighted by position in the drift"
    estimates_reverse_kl = False

    gamma: Annotated[float, Field(gt=0)] | None = None
    """iw_opd: extra weight of a rollout's first token; null: 0.5."""

    def advantage(self, log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
        gaps = (log_q - log_p).abs() * mask
        before = gaps.cumsum(-1) - gaps
        share = before / gaps.sum(-1, keepdim=True).clamp_min(1e-8)
        gamma = 0.5 if self.gamma is None else self.gamma
        return (1 + gamma * (1 - share)) * super().advantage(log_p, log_q, mask)
