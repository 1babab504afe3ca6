"""What an update minimises, and what it needs for that: ``distillation.distillation_loss.loss_mode`` names it.

An objective is a class: its fields are its settings, under ``prefix_opd.loss``. A per-token advantage of one's own is
a subclass of `PrefixOPD` that overrides `advantage`; another loss overrides `token_losses`.

Symbols: B sequences, T response tokens, log_p the student's log-probs of the sampled tokens, log_q the teacher's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from prefix_opd.base.fields import Fields
from prefix_opd.method.registry import Registry

if TYPE_CHECKING:  # torch is imported where it is used: the settings of a run are checked without it
    from torch import Tensor


class Objective(Fields):
    """One objective. The attributes say what it needs of a run."""

    label: ClassVar[str]
    """What tables and plots call it."""
    is_verls: ClassVar[bool] = False
    """verl implements it: it reads no advantage, weighting or importance ratio of this package."""
    needs_topk: ClassVar[bool] = False
    """The teacher gives its k likeliest tokens in place of its score of the sampled one. verl computes over them inside
    its engine (verl/trainer/distillation/losses.py: compute_topk_loss), for a loss of its own alone."""
    needs_advantage: ClassVar[bool] = True
    """The trainer forms the advantage before the update."""
    estimates_reverse_kl: ClassVar[bool] = False
    """Whether full-length training by it is the full OPD that prefixes are compared with."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if cls.needs_topk and not cls.is_verls:
            raise TypeError(f"{cls.__name__}.needs_topk: verl gives the teacher's top k to its own losses alone")

    def needs_teacher_at_update(self, student_log_prob: str) -> bool:
        """Whether the update itself reads the teacher's scores.

        Args:
            student_log_prob: ``prefix_opd.advantage.student_log_prob``. "current": the advantage is formed from the
                policy that is being updated, so in the update.
        """
        return self.is_verls or student_log_prob == "current"

    def advantage(self, log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
        """(B, T) of (B, T): how good each sampled token was. ``mask``: 1 on the tokens that the student sampled."""
        raise NotImplementedError(f"{type(self).__name__} defines no advantage")

    def bounded_advantage(self, log_p: Tensor, log_q: Tensor, mask: Tensor, clamp: float | None) -> Tensor:
        """The advantage without gradient, within ``clamp`` nats of 0."""
        if not log_p.shape == log_q.shape == mask.shape:
            raise ValueError(f"log_p {tuple(log_p.shape)}, log_q {tuple(log_q.shape)}, mask {tuple(mask.shape)} differ")
        advantage = self.advantage(log_p, log_q, mask).detach()
        return advantage if clamp is None else advantage.clamp(-clamp, clamp)

    def token_losses(self, log_p: Tensor, log_p_rollout: Tensor, advantage: Tensor, weights: Tensor | None) -> Tensor:
        """(B, T) losses, neither masked nor aggregated; a gradient flows through ``log_p`` alone.

        Args:
            log_p: (B, T) of the policy that is updated.
            log_p_rollout: (B, T) as the sampler reported them.
            advantage: (B, T).
            weights: (B, T) of positions; ``None`` is 1 everywhere.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no token_losses")


OBJECTIVES: Registry[Objective] = Registry("objective", default="prefix_opd")


class _ReverseKL(Objective):
    estimates_reverse_kl = True

    def advantage(self, log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
        from prefix_opd.method.advantage import reverse_kl_advantage

        return reverse_kl_advantage(log_p, log_q)


@OBJECTIVES.register("prefix_opd")
class PrefixOPD(_ReverseKL):
    """-(p_theta / p_rollout) * A_t * w_t with A_t = stop_grad[log q - log p] (arXiv 2602.15260, Eq. 1, section 3)."""

    label = "reverse KL of sampled tokens"

    max_ratio: Annotated[float, Field(gt=0)] | None = None
    """Truncate the importance ratio from above; none as in the paper."""

    def token_losses(self, log_p: Tensor, log_p_rollout: Tensor, advantage: Tensor, weights: Tensor | None) -> Tensor:
        from prefix_opd.method.loss import token_losses

        return token_losses(log_p, log_p_rollout, advantage, weights, self.max_ratio)


@OBJECTIVES.register("k1", "kl", "abs", "mse", "k2", "k3", "low_var_kl")
class VerlEstimator(_ReverseKL):
    """verl's own estimators of the reverse KL on sampled tokens. The advantage serves its metrics alone."""

    label = "reverse KL, verl's estimator"
    is_verls = True


@OBJECTIVES.register("forward_kl_topk")
class ForwardKLTopK(Objective):
    """verl's KL(teacher || student) over the teacher's k likeliest tokens (the paper's section 5.3)."""

    label = "forward KL, top k"
    is_verls = True
    needs_topk = True
    needs_advantage = False
