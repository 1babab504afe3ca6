"""Which attention a run uses where flash-attn is not installed."""

import json

import pytest
from omegaconf import OmegaConf

from prefix_opd.checks.together import choose_attention
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import ATTENTION_KEY
from prefix_opd.config.models import Model

QWEN3 = dict(
    model_type="qwen3",
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=151936,
)


@pytest.mark.parametrize(
    ("given", "student", "chosen"),
    [
        ([], {}, "torch_varlen"),
        (["actor_rollout_ref.model.use_remove_padding=false"], {}, "sdpa"),
        (["actor_rollout_ref.actor.fsdp_config.mixed_precision={param_dtype: fp32}"], {}, "sdpa"),
        (["prefix_opd.patches_off=[packed_attention]"], {}, "sdpa"),
        ([], dict(head_dim=260), "sdpa"),
        ([], dict(head_dim=36), "sdpa"),
        ([], dict(model_type="gemma3_text"), "sdpa"),
        (["+actor_rollout_ref.model.override_config.attn_implementation=sdpa"], {}, "sdpa"),
    ],
    ids=["gpu", "padded", "fp32", "patch off", "wide heads", "odd heads", "gemma", "asked for"],
)
def test_on_a_gpu(given, student, chosen, tmp_path, capsys):
    config = compose(["experiment=qwen3_1.7b/prefix_256", "layout=two_gpus", *given])
    (tmp_path / "config.json").write_text(json.dumps({**QWEN3, **student}))
    choose_attention(config, Model("student", str(tmp_path)))
    assert OmegaConf.select(config, ATTENTION_KEY) == chosen
    told = capsys.readouterr().err
    if "attn_implementation" in str(given):
        assert told == ""
    else:
        assert told.startswith("flash-attn is not installed, so the update uses ") and told.count("\n") == 1
