"""log p of the sampled tokens where flash-attn is missing: many rows at a time.

Without flash-attn's cross-entropy verl takes the logits one row at a time
(verl/utils/torch_functional.py:logprobs_from_logits_v2). With packed or unpadded sequences a row is a token: an
update of 8 000 tokens makes 8 000 small calls and as many in the backward pass, half of its seconds on a CPU. Here a
call takes as many rows as fit into `ELEMENTS` logits: the same formulas, and the same memory to the size of a block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

ELEMENTS = 2**24
"""Logits of one block: 64 MiB in fp32, half of that in bf16; 110 rows of Qwen3's vocabulary."""


def in_blocks(verls_own: Callable) -> Callable:
    """`label_log_probs` in place of verl's function."""
    return label_log_probs


def label_log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[labels].

    As a difference, logit minus log-sum-exp, in fp32 and fp64; in bf16 and fp16 a difference of two large rounded
    numbers would lose what matters, so there the whole log-softmax is formed, as verl does it.

    Args:
        logits: (..., V).
        labels: (...) token ids.

    Returns:
        (...) log-probs, differentiable in ``logits``.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not fit")
    rows, chosen = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1, 1)
    block = max(1, ELEMENTS // rows.shape[-1])
    if logits.dtype in (torch.float32, torch.float64):
        total = torch.cat([part.logsumexp(-1) for part in rows.split(block)])
        found = rows.gather(-1, chosen).squeeze(-1) - total
    else:
        parts = zip(rows.split(block), chosen.split(block), strict=True)
        found = torch.cat([part.log_softmax(-1).gather(-1, ids).squeeze(-1) for part, ids in parts])
    return found.reshape(labels.shape)
