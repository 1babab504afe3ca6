"""Divergences of student and teacher at a position, over the teacher's k likeliest tokens and all others as one event.

The k tokens and the rest are a partition of the vocabulary. A divergence over a partition is a lower bound of the one
over the vocabulary (data processing inequality), and equal to it at k = V. A plain sum over the k tokens is neither.

Symbols: log_p student, log_q teacher, both (..., k + 1) with the log of the rest's mass last, nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST_REST = 1e-6
"""Lower bound of the rest's mass: below it, 1 minus the sum of the others is rounding in fp32. At k = V the rest then
adds nothing."""


def with_rest(log_of_topk: Tensor) -> Tensor:
    """(..., k) log-probs -> (..., k + 1): the log of the mass of all other tokens comes last."""
    rest = (1 - log_of_topk.exp().sum(-1, keepdim=True)).clamp_min(LEAST_REST)
    return torch.cat([log_of_topk, rest.log()], -1)


def log_probs_of(logits: Tensor, ids: Tensor) -> Tensor:
    """(..., V) logits and (..., k) token ids -> (..., k) log-probs, fp32, without a (..., V) tensor of log-probs."""
    return logits.gather(-1, ids).float() - torch.logsumexp(logits.float(), -1, keepdim=True)


def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """(...) KL(a || b). The reverse KL of distillation is ``kl(log_p, log_q)``."""
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def generalized_jsd(log_p: Tensor, log_q: Tensor, beta: float) -> Tensor:
    """(...) beta KL(q || m) + (1 - beta) KL(p || m) with m = beta q + (1 - beta) p (arXiv 2306.13649, Eq. 1).

    Its gradient tends to that of the forward KL for beta -> 0 and of the reverse KL for beta -> 1, both times beta or
    1 - beta.
    """
    log_m = torch.logaddexp(log_q + math.log(beta), log_p + math.log1p(-beta))
    return beta * kl(log_q, log_m) + (1 - beta) * kl(log_p, log_m)
