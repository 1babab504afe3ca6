"""The advantage of on-policy distillation: the teacher's log-prob of a sampled token minus the student's."""

from __future__ import annotations

import torch
from torch import Tensor


def reverse_kl_advantage(log_p: Tensor, log_q: Tensor, clamp: float | None = None) -> Tensor:
    """A_t = stop_grad[log p_teacher(x_t) - log p_student(x_t)] (arXiv 2602.15260, Eq. 1 and section 3).

    Its mean over tokens that the student sampled is minus the reverse KL, KL(student || teacher). It is the whole
    return of the token: undiscounted (gamma = 0), without a baseline, a task reward or an entropy term.

    Args:
        log_p: the student's log-probs of the sampled tokens, any shape, nats.
        log_q: the teacher's log-probs of the same tokens, the same shape, nats.
        clamp: bound of ``|A_t|`` in nats; ``None`` as in the paper.

    Returns:
        The advantage, in the shape of the inputs, without gradient.
    """
    if log_p.shape != log_q.shape:
        raise ValueError(f"student log-probs {tuple(log_p.shape)} and teacher log-probs {tuple(log_q.shape)} differ")
    # reverse KL: p is the student, which sampled; q is the teacher, which only scores
    advantage = (log_q - log_p).detach()
    return advantage if clamp is None else advantage.clamp(-clamp, clamp)


def teacher_log_probs_of_response(log_q_shifted: Tensor, prompt_length: int) -> Tensor:
    """Cut the teacher's log-probs of the response out of those of the whole sequence.

    verl stores a teacher's score of the sequence x_0 … x_{S-1} shifted left by one: entry i is
    log q(x_{i+1} | x_{<=i}), and the last entry is a dummy 0. The first response token x_P is thus found at
    entry P - 1. With two prompt tokens a, b and one response token c::

        entry      0          1            2
        content    log q(b|a) log q(c|a,b) dummy
        prompt_length = 2  ->  [log q(c|a,b)]

    Args:
        log_q_shifted: (S,) or (S, 1), S = prompt and response tokens.
        prompt_length: P >= 1.

    Returns:
        (S - P,) log-probs, aligned with the response tokens.
    """
    sequence_length = log_q_shifted.shape[0]
    if not 1 <= prompt_length <= sequence_length:
        raise ValueError(f"prompt_length={prompt_length} does not fit a scored sequence of {sequence_length} tokens")
    return log_q_shifted.reshape(sequence_length)[prompt_length - 1 : sequence_length - 1]


def importance_ratio(log_p_current: Tensor, log_p_rollout: Tensor, maximum: float | None = None) -> Tensor:
    """p_theta(x_t) / p_rollout(x_t), the correction for sampling and updating with slightly different policies.

    Args:
        log_p_current: log-probs under the policy that is being updated; gradients flow through it.
        log_p_rollout: what the sampler reported, the same shape; a constant.
        maximum: truncate the ratio from above (a truncated importance weight); ``None`` as in the paper. Where it
            is truncated the token gives no gradient, as the derivative of a constant is 0.

    Returns:
        The ratio, in the shape of the inputs.
    """
    if log_p_current.shape != log_p_rollout.shape:
        raise ValueError(f"log-probs {tuple(log_p_current.shape)} and {tuple(log_p_rollout.shape)} differ")
    ratio = torch.exp(log_p_current - log_p_rollout.detach())
    return ratio if maximum is None else ratio.clamp(max=maximum)
