"""The whole objective written out, for comparison with what verl computes."""

from torch import Tensor


def prefix_opd_loss(
    log_p: Tensor,
    log_p_rollout: Tensor,
    log_q: Tensor,
    mask: Tensor,
    clamp: float = float("inf"),
    max_ratio: float = float("inf"),
) -> Tensor:
    """-(1/B) sum_i sum_t ratio * A_t over the masked tokens, with the advantage of the sampler's log-probs.

    The denominator is B, the number of sequences, independent of their lengths (verl's "seq-mean-token-sum").

    Args:
        log_p, log_p_rollout, log_q: (B, T) log-probs of the sampled tokens: current student, sampler, teacher.
        mask: (B, T), 1 on prefix tokens that the student sampled.
    """
    advantage = (log_q - log_p_rollout).clamp(-clamp, clamp).detach()
    ratio = (log_p - log_p_rollout.detach()).exp().clamp(max=max_ratio)
    return -(ratio * advantage * mask).sum() / len(mask)
