"""Bounds of packed sequences, and attention by them in a real model.

A loop over the sequences stands in for the kernel, which has no form for a CPU. `benchmarks.update` runs the kernel.
"""

import inspect

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from update_batches import SIZES

from prefix_opd.config.keys import PACKED_ATTENTION
from prefix_opd.verl_plugin.engine import packed_attention
from prefix_opd.verl_plugin.engine.packed_attention import attention, bounds, offsets_of

LENGTHS = [3, 1, 4, 2]
POSITIONS = torch.cat([torch.arange(length) for length in LENGTHS])[None]


def loop(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa=False):
    """What `varlen_attn` computes, sequence by sequence."""
    assert enable_gqa  # this torch wants it
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert max_q == max_k == cu_seq_q.diff().max()
    found = []
    for q, k, v in zip(*(one.tensor_split(cu_seq_q[1:-1].long()) for one in (query, key, value)), strict=True):
        apart = torch.arange(len(q))[:, None] - torch.arange(len(q))
        seen = (apart >= 0) & ((apart <= window_size[0]) | (window_size[0] < 0))
        q, k, v = (one.transpose(0, 1) for one in (q, k, v))
        part = scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=True)
        found.append(part.transpose(0, 1))
    return torch.cat(found)


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    monkeypatch.setattr(packed_attention, "varlen_attn", loop)


def test_bounds_by_hand():
    assert offsets_of(POSITIONS).tolist() == [0, 3, 4, 8, 10]
    found = bounds(torch.tensor([0, 3, 4, 8, 10]))
    assert found["cu_seq_lens_q"].tolist() == [0, 3, 4, 8, 10]
    assert found["max_length_q"] == found["max_length_k"] == 4


def test_transformers_finds_it():
    assert inspect.unwrap(ALL_ATTENTION_FUNCTIONS[PACKED_ATTENTION]) is attention


@pytest.mark.parametrize("given", [True, False], ids=["bounds given", "bounds from positions"])
@pytest.mark.parametrize(
    ("config", "model", "settings"),
    [
        (Qwen3Config, Qwen3ForCausalLM, {}),
        (LlamaConfig, LlamaForCausalLM, {}),
        (Qwen3Config, Qwen3ForCausalLM, dict(use_sliding_window=True, sliding_window=2, max_window_layers=1)),
    ],
    ids=["qwen3", "llama", "sliding window"],
)
def test_a_model_computes_what_sdpa_computes(config, model, settings, given):
    found = []
    ids = torch.randint(0, 64, POSITIONS.shape, generator=torch.Generator().manual_seed(0))
    for name in (PACKED_ATTENTION, "sdpa"):
        torch.manual_seed(0)
        made = model(config(**{**SIZES, **settings, "attn_implementation": name})).double()
        assert packed_attention.takes_bounds(made) == (name == PACKED_ATTENTION)
        more = bounds(offsets_of(POSITIONS)) if given and name == PACKED_ATTENTION else {}
        logits = made(input_ids=ids, position_ids=POSITIONS, use_cache=False, **more).logits
        (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
        found.append([logits, *(parameter.grad for parameter in made.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [dict(rows=2), dict(dropout=0.1), dict(mask=torch.ones(1, 10)), dict(softcap=30.0), dict(s_aux=torch.ones(4))],
)
def test_what_it_cannot_compute_is_refused(wrong):
    wrong = dict(wrong)
    query = torch.randn(wrong.pop("rows", 1), 4, 10, 8)
    mask = wrong.pop("mask", None)
    with pytest.raises(ValueError, match="use sdpa"):
        attention(None, query, query, query, mask, position_ids=POSITIONS, **wrong)
