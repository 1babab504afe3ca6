"""Which form an update takes, and where verl's own stays."""

import pytest
import torch
from transformers import Qwen3Config
from update_batches import ROLLOUTS, SIZES, batch, nested, qwen3, update
from verl.utils import tensordict_utils as tu

from prefix_opd.verl_plugin.engine import update_tokens

pytestmark = pytest.mark.usefixtures("use")
READ_MORE = ["calculate_entropy", "calculate_sum_pi_squared", "use_fused_kernels"]
BOTH = dict(response_logits_only=True, share_prompts=True)


@pytest.mark.parametrize("name", READ_MORE)
@pytest.mark.parametrize("packed", [False, True])
def test_verls_own_where_more_is_read(engine, name, packed, use):
    use(**BOTH)
    assert update_tokens._form(tu, engine, batch(use_remove_padding=packed)) is not None
    assert update_tokens._form(tu, engine, batch(use_remove_padding=packed, **{name: True})) is None


@pytest.mark.parametrize("name", ["use_ulysses_sp", "pad_to_length"])
def test_verls_own_where_the_packed_sequence_is_another(engine, monkeypatch, name, use):
    use(**BOTH)
    monkeypatch.setattr(engine, name, True)
    assert update_tokens._form(tu, engine, batch(use_remove_padding=True)) is None


def test_entropy_comes_whole(engine, configs, use):
    use(**BOTH)
    data = batch(calculate_entropy=True)
    output, _ = update(engine, configs, data)
    entropy = output["model_output"]["entropy"].unbind()
    assert all(
        len(row) == len(ids) and (row > 0).all() for row, ids in zip(entropy, data["input_ids"].unbind(), strict=True)
    )


def test_verls_own_for_a_model_that_cannot_choose_its_logits(engine, monkeypatch, use):
    use(**BOTH)
    monkeypatch.setattr(engine.module, "forward", lambda input_ids, attention_mask=None, **others: None)
    assert update_tokens._form(tu, engine, batch()) is None


def test_verls_own_for_a_response_without_tokens(engine, use):
    use(**BOTH)
    data = batch()
    data["responses"] = nested(torch.ones(length - (row == 2), dtype=int) for row, (_, length) in enumerate(ROLLOUTS))
    assert update_tokens._form(tu, engine, data) is None


@pytest.mark.parametrize(
    "model",
    [
        dict(attn_implementation="eager"),
        dict(use_sliding_window=True, sliding_window=4, max_window_layers=0),
        dict(layer_types=["full_attention", "linear_attention"]),
    ],
    ids=["eager", "sliding window", "not attention"],
)
def test_prompts_are_not_shared_where_more_than_plain_sdpa_mixes_tokens(engine, configs, model, use):
    config = Qwen3Config(**{**SIZES, **model})
    engine.put(qwen3())
    engine.module.config = config
    use(**BOTH)
    assert update_tokens._form(tu, engine, batch()) == update_tokens.PADDED
    use(response_logits_only=False, share_prompts=True)
    assert update_tokens._form(tu, engine, batch()) is None


def test_prompts_are_not_shared_where_one_has_an_image_or_sequences_are_packed(engine, use):
    use(**BOTH)
    image = [{}] * (len(ROLLOUTS) - 1) + [{"pixel_values": torch.ones(1)}]
    assert update_tokens._form(tu, engine, batch(multi_modal_inputs=image)) == update_tokens.PADDED
    assert update_tokens._form(tu, engine, batch(use_remove_padding=True)) == update_tokens.PACKED


def test_another_attention_than_ours_fails_and_does_not_guess(engine, configs, monkeypatch, use):
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    use(**BOTH)
    update(engine, configs, batch())
    standing = AttentionInterface._global_mapping["sdpa"]
    try:
        AttentionInterface.register("sdpa", sdpa_attention_forward)
        with pytest.raises(RuntimeError, match="expand|size"):
            update(engine, configs, batch())
    finally:
        AttentionInterface.register("sdpa", standing)
