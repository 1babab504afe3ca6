"""The layers of a decoder by kind: parameters, FLOP and cache of each, read from a Hugging Face config.

======================================  ============================================================
full and sliding-window attention       Qwen, Llama, Mistral, Gemma 2 to 4, gpt-oss
linear attention (Gated DeltaNet)       Qwen3-Next, Qwen3.5
dense MLP                               gate, up and down projection
mixture of experts                      Qwen, Mixtral, gpt-oss, GLM-4.5, Gemma 4; with shared experts
======================================  ============================================================

Norms and biases are left out, here and in verl.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNCOUNTED = {
    "is_encoder_decoder": "has an encoder",
    "kv_lora_rank": "has latent attention",
    "hidden_size_per_layer_input": "has an embedding for each layer",
    "num_kv_shared_layers": "has layers that share keys and values",
    "use_double_wide_mlp": "has MLPs of two widths",
}
"""Config keys of layers that are not counted -> what the model has."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Names of the number of experts, by family."""


@dataclass(frozen=True)
class Attention:
    """Softmax attention with grouped queries."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    """Tokens that a token attends to, itself included; none: all up to itself."""
    gated: bool = False
    """Whether the query projection also produces a gate of the same width (Qwen3-Next, Qwen3.5)."""
    one_key_value: bool = False
    """Whether the key projection also produces the values (Gemma 4)."""

    def parameters(self, hidden: int) -> int:
        """Query, key, value and output projection."""
        query = (3 if self.gated else 2) * self.heads * self.head_dim
        return hidden * (query + (1 if self.one_key_value else 2) * self.kv_heads * self.head_dim)

    def train_flops(self, length: float) -> float:
        """``6 * S^2 * head_dim * heads``: scores and their products with the values, forward and backward.

        A window of W leaves out the (S - W)^2 / 2 pairs beyond it: S^2 becomes S^2 - (S - W)^2 for S > W. (verl counts
        S * W, which for S >> W is half of that.)
        """
        beyond = 0.0 if self.window is None else max(0.0, length - self.window)
        return 6 * (length * length - beyond * beyond) * self.head_dim * self.heads

    def cache_bytes(self, tokens: float, value: int) -> float:
        """Keys and values of a sequence, ``value`` bytes each; no more than W tokens with a window."""
        kept = tokens if self.window is None else min(tokens, self.window)
        return 2 * self.kv_heads * self.head_dim * kept * value


@dataclass(frozen=True)
class DeltaNet:
    """Linear attention by the gated delta rule (arXiv 2412.06464, equation 10), as in Qwen3-Next and Qwen3.5.

    Each value head keeps a state S of key_dim x value_dim. A token decays it, reads it at the key, writes the
    difference to the value, and reads it at the query: S <- a S, u = b (v - S' k), S <- S + k u', o = S' q.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int
    """Tokens of the causal convolution on queries, keys and values."""

    @property
    def _mixed(self) -> int:
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    @property
    def _state(self) -> int:
        return self.value_heads * self.key_dim * self.value_dim

    def parameters(self, hidden: int) -> int:
        """Projections of q, k, v, the output gate, a, b and the output; the convolution."""
        values = self.value_heads * self.value_dim
        return hidden * (self._mixed + 2 * values + 2 * self.value_heads) + self.kernel * self._mixed

    def train_flops(self, length: float) -> float:
        """The rule token by token, forward and backward: 3 * (1 + 2 + 2 + 2) * key_dim * value_dim a value head.

        1 for the decay, 2 for each product. (verl counts 15 in place of 21; kernels that work in chunks compute more.)
        """
        return 21.0 * self._state * length

    def cache_bytes(self, tokens: float, value: int) -> float:
        """The states, which vLLM keeps in fp32, and the convolution's last tokens: the same for every length."""
        return 4 * self._state + (self.kernel - 1) * self._mixed * value


@dataclass(frozen=True)
class Mlp:
    """A gated MLP of ``width``, or a mixture of such experts."""

    width: int
    experts: int = 1
    active: int = 1
    """Number of experts per token."""
    shared: int = 0
    """Total width of the shared experts, which every token passes."""
    shared_gate: bool = False

    @property
    def active_width(self) -> int:
        """Total width of the experts of one token."""
        return self.active * self.width + self.shared

    def parameters(self, hidden: int, of_a_token: bool = False) -> int:
        """All parameters with the router, or those that one token passes."""
        routed = (self.active if of_a_token else self.experts) * self.width
        router = self.experts if self.experts > 1 else 0
        return hidden * (3 * (routed + self.shared) + router + self.shared_gate)


Layer = tuple[Attention | DeltaNet, Mlp]


def read_layers(config: Mapping[str, Any]) -> tuple[Layer, ...]:
    """The layers of a Hugging Face config (of its text part), in order.

    Raises:
        KeyError: the name of a missing field.
        ValueError: the model has layers that are not counted.
    """
    for key, says in UNCOUNTED.items():
        if config.get(key):
            raise ValueError(says)
    count = int(config["num_hidden_layers"])
    windowed = config.get("sliding_window") and config.get("use_sliding_window") is not False
    kinds = config.get("layer_types") or ["sliding_attention" if windowed else "full_attention"] * count
    mixers = {kind: _mixer(config, kind) for kind in dict.fromkeys(kinds)}
    return tuple((mixers[kind], _mlp(config, index)) for index, kind in enumerate(kinds[:count]))


def _mixer(config: Mapping[str, Any], kind: str) -> Attention | DeltaNet:
    if kind == "linear_attention" and "linear_num_value_heads" in config:
        names = ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim", "conv_kernel_dim")
        return DeltaNet(*(int(config[f"linear_{name}"]) for name in names))
    if kind not in ("full_attention", "sliding_attention"):
        raise ValueError(f"has layers of the kind {kind}")
    full, heads = kind == "full_attention", int(config["num_attention_heads"])
    if not full and not config.get("sliding_window"):
        raise KeyError("sliding_window")
    kv_heads = (full and config.get("num_global_key_value_heads")) or config["num_key_value_heads"]
    head_dim = (full and config.get("global_head_dim")) or config.get("head_dim")
    return Attention(
        heads,
        int(kv_heads),
        int(head_dim or int(config["hidden_size"]) // heads),
        None if full else int(config["sliding_window"]),
        gated=bool(config.get("attn_output_gate", "linear_num_value_heads" in config)),
        one_key_value=bool(full and config.get("attention_k_eq_v")),
    )


def _mlp(config: Mapping[str, Any], index: int) -> Mlp:
    dense = int(config["intermediate_size"]) if config.get("intermediate_size") else None
    experts = next((n for key in EXPERTS if (n := config.get(key))), 0)
    if not experts or _is_dense(config, index):
        if dense is None:
            raise KeyError("intermediate_size")
        return Mlp(dense)
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    shared = config.get("shared_expert_intermediate_size") or (config.get("n_shared_experts") or 0) * width
    if config.get("enable_moe_block"):  # Gemma 4 adds the experts to its dense MLP
        shared = dense
    active = config.get("top_k_experts") or config["num_experts_per_tok"]
    return Mlp(width, int(experts), int(active), int(shared), bool(config.get("shared_expert_intermediate_size")))


def _is_dense(config: Mapping[str, Any], index: int) -> bool:
    """Whether this layer of a mixture of experts has a dense MLP."""
    if kinds := config.get("mlp_layer_types"):
        return kinds[index] == "dense"
    return (
        index < (config.get("first_k_dense_replace") or 0)
        or index in (config.get("mlp_only_layers") or ())
        or (index + 1) % (config.get("decoder_sparse_step") or 1) != 0
        or config.get("enable_moe_block") is False
    )
