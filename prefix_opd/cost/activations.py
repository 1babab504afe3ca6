"""Memory of the activations that an update keeps for its backward pass without gradient checkpointing."""

from __future__ import annotations

from prefix_opd.method.flops import ModelShape
from prefix_opd.method.layers import Attention, DeltaNet, Mlp

BYTES = 2
"""Per value: activations are in bf16."""


def kept_bytes(shape: ModelShape, compiled: bool) -> int:
    """Bytes per token that the layers keep, attention by flash kernels, everything in bf16.

    With D the hidden size, Q and K the widths of query and key, I the width of the MLP, a layer keeps

    ====================================  =================  =================
    values                                layer by layer     compiled
    ====================================  =================  =================
    two norms: input and output           2 x 3 D + 2 x D    2 x D + 2 x D
    norms of query and key                3 (Q + K)          Q + K
    query, key, value, output             2 Q + 2 K          2 Q + 2 K
    gate, up, SiLU or product             4 I                3 I
    ====================================  =================  =================

    Layer by layer, the inputs of all norms are kept in fp32 and in bf16.

    Raises:
        ValueError: for layers other than softmax attention with a dense MLP.
    """
    return BYTES * sum(count * _values(shape.hidden_size, *kind, compiled) for kind, count in shape.kinds.items())


def _values(hidden: int, mixer: Attention | DeltaNet, mlp: Mlp, compiled: bool) -> int:
    if not isinstance(mixer, Attention) or mixer.gated or mlp.experts > 1:
        raise ValueError(f"has layers whose activations are not counted: {mixer}, {mlp}")
    query, key = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
    if compiled:
        return 4 * hidden + 3 * (query + key) + 3 * mlp.width
    return 8 * hidden + 5 * (query + key) + 4 * mlp.width
