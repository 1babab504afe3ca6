"""Log-probs of the sampled tokens without flash-attn, computed in blocks of rows.

verl computes one row at a time; with packed sequences a row is a token. Here one call processes as many rows as fit
into `ELEMENTS` logits. The formulas are verl's; memory grows by one block at most.
"""

from __future__ import annotations

import torch

from prefix_opd.base.patching import around

ELEMENTS = 2**24
"""Logits per block: 64 MiB in fp32, 32 MiB in bf16; 110 rows of Qwen3's vocabulary."""


@around
def in_blocks(verls_own, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[labels].

    fp32 and fp64 use logit minus log-sum-exp. In bf16 and fp16 the difference of two large rounded numbers is too
    inaccurate, so the whole log-softmax is computed, as in verl.

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
