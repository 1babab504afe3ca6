"""The loss: a policy gradient with the teacher's log-ratio as advantage."""

from __future__ import annotations

import torch
from torch import Tensor

from prefix_opd.method.advantage import importance_ratio, reverse_kl_advantage


def token_losses(
    log_p: Tensor,
    log_p_rollout: Tensor,
    advantage: Tensor,
    weights: Tensor | None = None,
    max_ratio: float | None = None,
) -> Tensor:
    """-(p_theta / p_rollout) * A_t * w_t for each token (arXiv 2602.15260, section 3).

    At p_theta = p_rollout its gradient is -A_t * grad log p_theta(x_t): REINFORCE with a per-token reward.

    Args:
        log_p: (B, T) log-probs of the policy that is updated; the only input with a gradient.
        log_p_rollout: (B, T) log-probs that the sampler reported.
        advantage: (B, T), see `prefix_opd.method.advantage.reverse_kl_advantage`.
        weights: (B, T) position weights, see `prefix_opd.method.weighting`; ``None`` means 1 everywhere.
        max_ratio: see `prefix_opd.method.advantage.importance_ratio`.

    Returns:
        (B, T) losses, neither masked nor aggregated.
    """
    for name, tensor in (("advantage", advantage), ("weights", weights)):
        if tensor is not None and tensor.shape != log_p.shape:
            raise ValueError(f"{name} {tuple(tensor.shape)} and log-probs {tuple(log_p.shape)} differ in shape")
    losses = -importance_ratio(log_p, log_p_rollout, max_ratio) * advantage.detach()
    return losses if weights is None else losses * weights


def prefix_opd_loss(
    log_p: Tensor,
    log_p_rollout: Tensor,
    log_q: Tensor,
    mask: Tensor,
    clamp: float | None = None,
    max_ratio: float | None = None,
) -> Tensor:
    """Reference form of the whole objective: the sum over the tokens of a sequence, averaged over sequences.

    The denominator is B, the number of sequences, independent of their lengths (verl's "seq-mean-token-sum"). In
    training verl aggregates across micro-batches and ranks. Tests compare verl's result with this function.

    Args:
        log_p, log_p_rollout, log_q: (B, T) log-probs of the sampled tokens: current student, sampler, teacher.
        mask: (B, T), 1 on prefix tokens that the student sampled.

    Returns:
        A scalar.
    """
    advantage = reverse_kl_advantage(log_p_rollout, log_q, clamp)
    losses = token_losses(log_p, log_p_rollout, advantage, max_ratio=max_ratio)
    return torch.sum(losses * mask) / mask.shape[0]
