"""Objectives: what an update minimises. ``distillation.distillation_loss.loss_mode`` names the objective.

An objective is a class. Its fields are its settings, under ``prefix_opd.loss``. For a new per-token advantage, subclass
`PrefixOPD` and override `advantage`; for a new loss, override `token_losses`.

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
    """Base class of objectives. The class attributes say what the objective needs from a run."""

    label: ClassVar[str]
    """Name in tables and plots."""
    is_verls: ClassVar[bool] = False
    """Whether verl implements the loss. Such a loss ignores our advantage, weighting and importance ratio."""
    needs_topk: ClassVar[bool] = False
    """Whether the teacher returns its k likeliest tokens in place of the sampled token's score. An objective of ours
    then defines `divergence` in place of `token_losses`."""
    reports_drift: ClassVar[bool] = False
    """Whether `metrics` tells up to which token each rollout is reliable."""
    estimates_reverse_kl: ClassVar[bool] = False
    """Whether full-length training with this objective is the full-OPD baseline for prefixes."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if cls.needs_topk and not cls.is_verls and cls.divergence is Objective.divergence:
            raise TypeError(f"{cls.__name__}.needs_topk: define divergence, which reads the teacher's top k")

    @property
    def has_ratio(self) -> bool:
        """Whether an importance ratio corrects for rollouts of an older policy."""
        return not (self.is_verls or self.needs_topk)

    def needs_teacher_at_update(self, student_log_prob: str) -> bool:
        """Whether the update reads the teacher's scores.

        With ``prefix_opd.advantage.student_log_prob`` "current" it computes the advantage itself.
        """
        return self.is_verls or self.needs_topk or student_log_prob == "current"

    def advantage(self, log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
        """(B, T) advantage of each token, by default the paper's. Objectives over the top k have none.

        Args:
            log_p, log_q, mask: (B, T); ``mask`` is 1 on tokens that the student sampled.
        """
        from prefix_opd.method.advantage import reverse_kl_advantage

        return reverse_kl_advantage(log_p, log_q)

    def bounded_advantage(self, log_p: Tensor, log_q: Tensor, mask: Tensor, clamp: float | None) -> Tensor:
        """`advantage` without gradient, clamped to [-clamp, clamp] nats, 0 outside the mask."""
        if not log_p.shape == log_q.shape == mask.shape:
            raise ValueError(f"log_p {tuple(log_p.shape)}, log_q {tuple(log_q.shape)}, mask {tuple(mask.shape)} differ")
        advantage = self.advantage(log_p, log_q, mask).detach().masked_fill(~mask.bool(), 0.0)
        return advantage if clamp is None else advantage.clamp(-clamp, clamp)

    def metrics(self, log_p: Tensor, log_q: Tensor, mask: Tensor, prefix_lengths: Tensor) -> dict[str, float]:
        """Metrics of a step, by `prefix_opd.method.names`. ``prefix_lengths``: (B,) L, tokens; the others: (B, T)."""
        return {}

    def token_losses(self, log_p: Tensor, log_p_rollout: Tensor, advantage: Tensor, weights: Tensor | None) -> Tensor:
        """(B, T) losses, neither masked nor aggregated. Gradients flow only through ``log_p``.

        Args:
            log_p, log_p_rollout: (B, T) log-probs of the policy that is updated, and those that the sampler reported.
            advantage, weights: (B, T); no weights mean 1 everywhere.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no token_losses")

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """(...) loss of a position from the (..., k + 1) log-probs of `prefix_opd.method.divergence.with_rest`.

        Gradients flow through ``log_p``.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no divergence")


OBJECTIVES: Registry[Objective] = Registry("objective", default="prefix_opd")


@OBJECTIVES.register("prefix_opd")
class PrefixOPD(Objective):
    """-(p_theta / p_rollout) * A_t * w_t with A_t = stop_grad[log q - log p] (arXiv 2602.15260, Eq. 1, section 3).

    At p_theta = p_rollout the gradient is -A_t * grad log p_theta(x_t): REINFORCE with a reward for each token.
    """

    label = "reverse KL of sampled tokens"
    estimates_reverse_kl = True

    max_ratio: Annotated[float, Field(gt=1)] | None = None
    """Upper bound of the importance ratio; null (no bound) as in the paper. A truncated token has no gradient.
    On-policy the ratio is 1, so a bound of 1 or less would leave no gradient at all."""

    def token_losses(self, log_p: Tensor, log_p_rollout: Tensor, advantage: Tensor, weights: Tensor | None) -> Tensor:
        from prefix_opd.method.advantage import importance_ratio

        for name, tensor in (("advantage", advantage), ("weights", weights)):
            if tensor is not None and tensor.shape != log_p.shape:
                raise ValueError(f"{name} {tuple(tensor.shape)} and log-probs {tuple(log_p.shape)} differ in shape")
        losses = -importance_ratio(log_p, log_p_rollout, self.max_ratio) * advantage.detach()
        return losses if weights is None else losses * weights


@OBJECTIVES.register("k1", "kl", "mse", "k2")
class VerlReverseKL(Objective):
    """verl's estimators of the reverse KL on sampled tokens. The advantage is only used for metrics.

    verl differentiates the estimator on the sampled tokens. The mean gradient of k2 = (log p - log q)^2 / 2 is
    E_p[(log p - log q) grad log p] = grad KL(p || q). That of k1 = log p - log q is 0: k1 needs the policy gradient.
    """

    label = "reverse KL, verl's estimator"
    estimates_reverse_kl = True
    is_verls = True


@OBJECTIVES.register("k3", "low_var_kl")
class VerlForwardKL(Objective):
    """verl's k3 on sampled tokens. Its value estimates the reverse KL; its gradient is that of the forward KL.

    k3 = q / p - 1 - log(q / p). Its mean gradient is E_p[(1 - q / p) grad log p] = -E_q[grad log p] = grad KL(q || p).
    """

    label = "forward KL, sampled"
    is_verls = True


@OBJECTIVES.register("abs")
class VerlTotalVariation(Objective):
    """verl's |log p - log q| on sampled tokens. Its gradient is that of twice the total variation.

    The mean gradient is E_p[sign(p - q) grad log p] = grad sum |p - q|.
    """

    label = "total variation, sampled"
    is_verls = True


@OBJECTIVES.register("forward_kl_topk")
class ForwardKLTopK(Objective):
    """verl's KL(teacher || student) over the teacher's k likeliest tokens (the paper's section 5.3)."""

    label = "forward KL, top k"
    is_verls = True
    needs_topk = True


@OBJECTIVES.register("reverse_kl_topk")
class ReverseKLTopK(Objective):
    """KL(student || teacher) over the teacher's k likeliest tokens and the rest (`prefix_opd.method.divergence`)."""

    label = "reverse KL, top k"
    needs_topk = True

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        from prefix_opd.method.divergence import kl

        return kl(log_p, log_q)


@OBJECTIVES.register("jsd_topk")
class GeneralizedJSD(Objective):
    """The generalised Jensen-Shannon divergence over the teacher's k likeliest tokens and the rest."""

    label = "generalised JSD, top k"
    needs_topk = True

    beta: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the teacher in the mixture: near 0 like the forward KL, near 1 like the reverse KL; null: 0.5."""

    def divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        from prefix_opd.method.divergence import generalized_jsd

        return generalized_jsd(log_p, log_q, 0.5 if self.beta is None else self.beta)
