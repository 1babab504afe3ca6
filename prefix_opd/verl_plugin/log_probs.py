"""log p of the sampled tokens where flash-attn is missing: many rows at a time.

Without flash-attn's cross-entropy verl takes the log-sum-exp of one row at a time
(verl/utils/torch_functional.py:logprobs_from_logits_v2). With packed or unpadded sequences a row is a token: an
update of 8 000 tokens makes 8 000 small calls and as many in the backward pass, half of its seconds on a CPU. Here a
call takes as many rows as fit into `ELEMENTS` logits: the same formula, and the same memory to the size of a block.
"""

from __future__ import annotations

from types import ModuleType

import torch

from prefix_opd.on_import import call_after_import

ELEMENTS = 2**24
"""Logits of one block: 64 MiB in fp32, 110 rows of Qwen3's vocabulary."""


def register() -> None:
    """Put `label_log_probs` in the place of verl's function, once verl has imported it."""
    call_after_import("verl.utils.torch_functional", _replace)


def label_log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log softmax(logits)[labels].

    Args:
        logits: (..., V) in fp32 or fp64.
        labels: (...) token ids.

    Returns:
        (...) log-probs, differentiable in ``logits``.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not fit")
    rows = logits.reshape(-1, logits.shape[-1])
    block = max(1, ELEMENTS // rows.shape[-1])
    total = torch.cat([part.logsumexp(-1) for part in rows.split(block)])
    chosen = rows.gather(-1, labels.reshape(-1, 1)).squeeze(-1)
    return (chosen - total).reshape(labels.shape)


def _replace(module: ModuleType) -> None:
    original = module.logprobs_from_logits_v2

    def logprobs_from_logits_v2(logits, labels):
        if logits.dtype in (torch.float32, torch.float64):
            return label_log_probs(logits, labels)
        return original(logits, labels)  # in bf16 a difference of large numbers would lose what matters

    module.logprobs_from_logits_v2 = logprobs_from_logits_v2
