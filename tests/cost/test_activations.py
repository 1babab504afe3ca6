"""Activations that a layer keeps: by hand, and as counted in a real layer in bf16."""

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from prefix_opd.cost.activations import kept_bytes
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.layers import Attention, DeltaNet, Mlp


def test_by_hand_of_qwen3_1_7b():
    shape = ModelShape(2048, 151936, ((Attention(16, 8, 128), Mlp(6144)),) * 28)
    assert kept_bytes(shape, compiled=False) == 2 * 28 * (8 * 2048 + 3 * 3072 + 6144 + 4 * 6144)
    assert kept_bytes(shape, compiled=True) == 2 * 28 * (4 * 2048 + 3072 + 6144 + 3 * 6144)


@pytest.mark.parametrize("layer", [(DeltaNet(2, 4, 8, 8, 4), Mlp(48)), (Attention(4, 2, 8), Mlp(48, 8, 2))])
def test_other_layers_are_not_counted(layer):
    with pytest.raises(ValueError, match="not counted"):
        kept_bytes(ModelShape(32, 64, (layer,)), compiled=True)


def test_as_counted_in_a_model():
    """Bytes that autograd keeps for one more layer of a model in bf16, every storage once, weights left out."""
    tokens, found = 64, []
    for count in (1, 2):
        sizes = dict(hidden_size=128, intermediate_size=384, num_attention_heads=8, num_key_value_heads=4, head_dim=16)
        config = Qwen3Config(vocab_size=64, num_hidden_layers=count, attn_implementation="sdpa", **sizes)
        model = Qwen3ForCausalLM(config).bfloat16().train()
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept = {}

        def keep(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu"):
            model.model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=False)
        found.append(sum(one.untyped_storage().nbytes() for place, one in kept.items() if place not in weights))
    shape = ModelShape.from_config({**config.to_dict(), "num_hidden_layers": 1})
    # beside the tensors of the formula: a number per token and head for each norm and for the softmax
    assert (found[1] - found[0]) / tokens == pytest.approx(kept_bytes(shape, compiled=False), rel=0.03)
