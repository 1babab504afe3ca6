"""Layers by kind, by hand and beside published counts. Norms are left out: they are less than 0.02% of a model."""

import pytest

from prefix_opd.cost.arithmetic import cache_bytes
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.layers import Attention, DeltaNet, Mlp

QWEN3_30B_A3B = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "vocab_size": 151936,
}
SMALL = {
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 3,
    "vocab_size": 10,
}


def test_qwen3_30b_a3b_by_hand():
    shape = ModelShape.from_config(QWEN3_30B_A3B)
    attention = 2048 * (2 * 32 * 128 + 2 * 4 * 128)
    router = 2048 * 128
    expert = 3 * 2048 * 768
    embedding_and_head = 2 * 151936 * 2048
    assert shape.all_parameters == 48 * (attention + router + 128 * expert) + embedding_and_head == 30_531_911_680
    assert shape.matmul_parameters == 48 * (attention + router + 8 * expert) + embedding_and_head == 3_352_821_760
    # published: 30.53e9, 3.35e9 active; key and value of one token in bf16: 48 layers x 2 x 4 x 128 x 2 bytes
    assert cache_bytes(shape, 1) == 98_304


@pytest.mark.parametrize(
    ("changed", "total", "active"),
    [
        # Qwen3-235B-A22B: 235e9, 22e9 active
        (dict(hidden_size=4096, moe_intermediate_size=1536, num_hidden_layers=94, num_attention_heads=64), 235.1, 22.2),
        # Mixtral 8x7B (arXiv 2401.04088): 47e9, 13e9 active
        (
            dict(
                hidden_size=4096,
                intermediate_size=14336,
                moe_intermediate_size=None,
                num_hidden_layers=32,
                num_key_value_heads=8,
                num_experts=None,
                num_local_experts=8,
                num_experts_per_tok=2,
                vocab_size=32000,
            ),
            46.7,
            12.9,
        ),
        # Qwen1.5-MoE-A2.7B: 14.3e9, 2.7e9 active, with a shared expert and its gate
        (
            dict(
                moe_intermediate_size=1408,
                shared_expert_intermediate_size=5632,
                num_hidden_layers=24,
                num_attention_heads=16,
                num_key_value_heads=16,
                num_experts=60,
                num_experts_per_tok=4,
            ),
            14.3,
            2.7,
        ),
    ],
    ids=["235b-a22b", "mixtral", "qwen1.5-moe"],
)
def test_published_mixtures(changed, total, active):
    shape = ModelShape.from_config({**QWEN3_30B_A3B, **changed})
    assert shape.all_parameters / 1e9 == pytest.approx(total, abs=0.06)
    assert shape.matmul_parameters / 1e9 == pytest.approx(active, abs=0.06)


def test_a_mixture_may_have_dense_layers():
    first = {"first_k_dense_replace": 1, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 5}
    shape = ModelShape.from_config({**SMALL, **first, "n_shared_experts": 1})
    assert [mlp for _, mlp in shape.layers] == [Mlp(8), Mlp(5, 4, 2, shared=5)]
    # attention 72 (test_flops.py) twice; 3*4*8; 3*4*(4*5 + 5) + 4*4; embedding and head 80
    assert shape.all_parameters == 144 + 96 + 316 + 80
    assert shape.matmul_parameters == 144 + 96 + 3 * 4 * 15 + 16 + 80
    every_second = {"num_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 5, "decoder_sparse_step": 2}
    assert [mlp.experts for _, mlp in ModelShape.from_config({**SMALL, **every_second}).layers] == [1, 4]


# ---- sliding windows ----


def test_a_window_bounds_pairs_and_cache():
    full, window = Attention(2, 1, 3), Attention(2, 1, 3, window=4)
    # up to the window nothing changes; 10 tokens: 100 - 6^2 = 64 in place of 100
    assert window.train_flops(4) == full.train_flops(4) == 6 * 16 * 6
    assert window.train_flops(10) == 6 * 64 * 6
    # pairs of a causal window, without the diagonal's halves: 4 * 10 - 4^2 / 2 = 32 = 64 / 2
    assert sum(min(i + 0.5, 4) for i in range(10)) == 32
    # key and value of 3 in 2 bytes: 12 a token
    assert [full.cache_bytes(tokens, 2) for tokens in (2, 4, 10)] == [24, 48, 120]
    assert [window.cache_bytes(tokens, 2) for tokens in (2, 4, 10)] == [24, 48, 48]


def test_layers_of_two_kinds():
    shape = ModelShape.from_config(
        {**SMALL, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}
    )
    assert [mixer.window for mixer, _ in shape.layers] == [4, None]
    assert shape.matmul_parameters == 416  # as without windows
    # 6 * N * 10 and 6 * head_dim * heads * (64 + 100)
    assert shape.train_flops([10]) == 6 * 416 * 10 + 36 * 164
    assert cache_bytes(shape, 10) == 48 + 120


@pytest.mark.parametrize(
    ("changed", "window"),
    [
        ({"sliding_window": 4}, 4),  # Mistral 7B
        ({"sliding_window": 4, "use_sliding_window": False}, None),  # Qwen2
        ({"sliding_window": None}, None),
    ],
)
def test_a_window_of_all_layers(changed, window):
    assert {mixer.window for mixer, _ in ModelShape.from_config({**SMALL, **changed}).layers} == {window}


# ---- linear attention ----


def test_gated_delta_net_by_hand():
    net = DeltaNet(key_heads=1, value_heads=2, key_dim=3, value_dim=5, kernel=4)
    # q and k of 3, v of 10: 16 channels. Projections: 16, gate 10, a and b 2 + 2, output 10; convolution 4 x 16
    assert net.parameters(4) == 4 * (16 + 10 + 4 + 10) + 64
    # 2 states of 15; decay 1, read 2, write 2, read 2, three times that with the backward pass
    assert net.train_flops(10) == 3 * 7 * 30 * 10
    # the states in 4 bytes and 3 tokens of the convolution in 2, whatever the length
    assert net.cache_bytes(1, 2) == net.cache_bytes(10_000, 2) == 4 * 30 + 2 * 48


QWEN3_NEXT_80B_A3B = {
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "vocab_size": 151936,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 12,
}


def test_qwen3_next_by_hand():
    shape = ModelShape.from_config(QWEN3_NEXT_80B_A3B)
    mlp = 2048 * (3 * 513 * 512 + 512 + 1)
    full = 2048 * (3 * 16 * 256 + 2 * 2 * 256)
    linear = 2048 * (2 * 2048 + 3 * 4096 + 2 * 32) + 4 * (2 * 2048 + 4096)
    # q, k, v, z: 2 * 2048 + 2 * 4096; a, b: 2 * 32; output: 4096
    assert shape.all_parameters == 48 * mlp + 12 * full + 36 * linear + 2 * 151936 * 2048
    assert shape.all_parameters / 1e9 == pytest.approx(79.7, abs=0.05)  # published: 80B
    # published: 3B active, which leaves out embedding and head (0.6e9)
    assert (shape.matmul_parameters - 2 * 151936 * 2048) / 1e9 == pytest.approx(3.3, abs=0.1)
    # 36 states of 32 x 128 x 128 with 3 x 8192 of the convolution; 12 layers of key and value, 2 heads of 256
    assert cache_bytes(shape, 1000) == 36 * (4 * 32 * 128 * 128 + 2 * 3 * 8192) + 2 * 12 * 2 * 2 * 256 * 1000


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"kv_lora_rank": 512}, "has latent attention"),
        ({"is_encoder_decoder": True}, "has an encoder"),
        ({"layer_types": ["conv", "full_attention"]}, "has layers of the kind conv"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "has layers of the kind linear_attention"),
    ],
)
def test_what_is_not_counted_says_so(changed, says):
    with pytest.raises(ValueError, match=says):
        ModelShape.from_config({**SMALL, **changed})
