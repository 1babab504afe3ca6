"""The size of a LoRA adapter (arXiv 2106.09685): beside a matrix of in x out stand rank x in and out x rank."""

from __future__ import annotations

from collections.abc import Iterable

from prefix_opd.method.flops import ModelShape
from prefix_opd.method.layers import Attention

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a dense decoder's layer."""


def adapter_parameters(shape: ModelShape, rank: int, modules: Iterable[str]) -> int:
    """Parameters of an adapter beside the named linear layers (of `LINEAR`) of all layers.

    Raises:
        ValueError: what the model is, if it has other linear layers than `LINEAR`.
    """
    found = 0
    for (mixer, mlp), count in shape.kinds.items():
        if not isinstance(mixer, Attention) or mixer.gated or mixer.one_key_value:
            raise ValueError("has other projections than query, key, value and output")
        if mlp.experts > 1:
            raise ValueError("is a mixture of experts")
        query, key_value = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
        outer = (query, key_value, key_value, query, *(mlp.width,) * 3)  # the other side of each is `hidden_size`
        sides = {name: shape.hidden_size + width for name, width in zip(LINEAR, outer, strict=True)}
        found += rank * count * sum(sides[name] for name in modules)
    return found
