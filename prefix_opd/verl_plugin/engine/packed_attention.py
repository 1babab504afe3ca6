"""Attention over packed sequences with the flash kernels inside torch, for GPUs without the package flash-attn.

`torch.nn.attention.varlen.varlen_attn` (torch >= 2.10) takes the bounds of the sequences. transformers' sdpa takes none
and pays the square of a whole pack. The kernels need CUDA with compute capability 8.0 or higher, bf16 or fp16, and a
head dimension that is a multiple of 8 and at most 256. Key and value may have fewer heads than the query.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from prefix_opd.config.keys import PACKED_ATTENTION

# torch 2.11 accepts fewer key heads as they are; later releases want this argument
_FEWER_KEY_HEADS = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}


def registered(nothing: None) -> Callable:
    """The attention function that transformers finds under `PACKED_ATTENTION`.

    transformers builds no mask for a name without a mask function. Compiled layers call it between their graphs: torch
    2.11 failed to compile graphs that hold the bounds, whose size changes with the number of sequences.
    """
    return torch.compiler.disable(attention)


def bounds(offsets: Tensor) -> dict[str, Any]:
    """The bounds of a pack's sequences as transformers' attention functions take them.

    A pass computes them once. Without them each layer derives them from ``position_ids`` and waits for the GPU.

    Args:
        offsets: (S + 1,) start of each sequence, and the number of tokens.
    """
    starts, longest = offsets.to(torch.int32), int(offsets.diff().max())
    return {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}


def offsets_of(position_ids: Tensor) -> Tensor:
    """(S + 1,) offsets of the sequences of a pack: each starts at position 0.

    Args:
        position_ids: (1, T).
    """
    flat = position_ids.reshape(-1)
    return torch.nn.functional.pad((flat == 0).nonzero().squeeze(1), (0, 1), value=len(flat))


def takes_bounds(module: Any) -> bool:
    """Whether the model's attention reads `bounds`."""
    name = str(module.config._attn_implementation)
    return name == PACKED_ATTENTION or name.startswith("flash_attention")


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence of a pack.

    Args:
        query: (1, H, T, d).
        key: (1, H / g, T, d), one key head for g query heads.
        value: as ``key``.
        others: `bounds`, or else ``position_ids`` (1, T).

    Returns:
        (1, T, H, d), and no weights.

    Raises:
        ValueError: for padded sequences, dropout, capped scores or attention sinks.
    """
    more = dropout or any(others.get(name) is not None for name in ("softcap", "s_aux"))
    if len(query) != 1 or attention_mask is not None or more:
        raise ValueError(f"attn_implementation={PACKED_ATTENTION} is causal attention over packed sequences; use sdpa")
    if others.get("cu_seq_lens_q") is None:
        others = bounds(offsets_of(others["position_ids"]))
    # norms in fp32, as with adapters, leave query and key in fp32 under autocast
    q, k, v = (tensor[0].transpose(0, 1).to(value.dtype) for tensor in (query, key, value))
    found = varlen_attn(
        q,
        k,
        v,
        others["cu_seq_lens_q"],
        others["cu_seq_lens_k"],
        others["max_length_q"],
        others["max_length_k"],
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        **_FEWER_KEY_HEADS,
    )
    return found.unsqueeze(0), None
