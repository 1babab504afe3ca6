"""The advantage of on-policy distillation: the teacher's log-prob of a sampled token minus the student's."""

from __future__ import annotations

import torch
from torch import Tensor


def reverse_kl_advantage(log_p: Tensor, log_q: Tensor) -> Tensor:
    """A_t = stop_grad[log p_teacher(x_t) - log p_student(x_t)] (arXiv 2602.15260, Eq. 1 and section 3).

    Its mean over tokens that the student sampled estimates -KL(student || teacher), the negative reverse KL. The
    advantage is the token's whole return: gamma = 0, no baseline, no task reward, no entropy term.

    Args:
        log_p, log_q: student and teacher log-probs of the sampled tokens, one shape, which the advantage has too; nats.
    """
    if log_p.shape != log_q.shape:
        raise ValueError(f"student log-probs {tuple(log_p.shape)} and teacher log-probs {tuple(log_q.shape)} differ")
    return (log_q - log_p).detach()


def teacher_log_probs_of_response(log_q_shifted: Tensor, prompt_length: int) -> Tensor:
    """(S - P,) log-probs of the response from those of the whole sequence.

    verl stores the teacher's scores of the sequence x_0 … x_{S-1} shifted left by one: entry i is
    log q(x_{i+1} | x_{<=i}), and the last entry is a dummy 0. The first response token x_P has its score at
    entry P - 1. With two prompt tokens a, b and one response token c::

        entry      0          1            2
        content    log q(b|a) log q(c|a,b) dummy
        prompt_length = 2  ->  [log q(c|a,b)]

    Args:
        log_q_shifted: (S,) or (S, 1), S = number of prompt and response tokens.
        prompt_length: P >= 1.
    """
    sequence_length = log_q_shifted.shape[0]
    if not 1 <= prompt_length <= sequence_length:
        raise ValueError(f"prompt_length={prompt_length} does not fit a scored sequence of {sequence_length} tokens")
    return log_q_shifted.reshape(sequence_length)[prompt_length - 1 : sequence_length - 1]


def at_students_positions(teacher_scores: Tensor, teacher_prompt_length: int, prompt_length: int) -> Tensor:
    """(P + T, k) scores of a response, moved from the teacher's own prompt to the student's; 0 at other entries.

    `teacher_log_probs_of_response` and verl's losses then find them by the student's prompt length. A teacher's prompt
    of 3 tokens and a student's of 2, response c d::

        entry      0              1              2              3      4
        teacher    log q(b|a)     log q(x|a,b)   log q(c|a,b,x) log q(d|…) dummy
        returned   0              log q(c|a,b,x) log q(d|…)     dummy

    Args:
        teacher_scores: (Q + T, k) of a sequence of Q prompt and T response tokens, shifted left by one.
        teacher_prompt_length: Q >= 1.
        prompt_length: P >= 1.
    """
    response = len(teacher_scores) - teacher_prompt_length
    if min(teacher_prompt_length, prompt_length) < 1 or response < 0:
        prompts = f"prompts of {teacher_prompt_length} and {prompt_length} tokens"
        raise ValueError(f"{prompts} do not fit {len(teacher_scores)} scores")
    moved = teacher_scores.new_zeros(prompt_length + response, *teacher_scores.shape[1:])
    moved[prompt_length - 1 : -1] = teacher_scores[teacher_prompt_length - 1 : -1]
    return moved


def importance_ratio(log_p_current: Tensor, log_p_rollout: Tensor, maximum: float | None = None) -> Tensor:
    """p_theta(x_t) / p_rollout(x_t), which corrects for differences between the sampling and the updated policy.

    Args:
        log_p_current: log-probs under the policy that is being updated; gradients flow through it.
        log_p_rollout: log-probs that the sampler reported, same shape; a constant.
        maximum: upper bound of the ratio (truncated importance weight); ``None`` (no bound) as in the paper. A token
            with a truncated ratio gives no gradient.
    """
    if log_p_current.shape != log_p_rollout.shape:
        raise ValueError(f"log-probs {tuple(log_p_current.shape)} and {tuple(log_p_rollout.shape)} differ")
    ratio = torch.exp(log_p_current - log_p_rollout.detach())
    return ratio if maximum is None else ratio.clamp(max=maximum)
