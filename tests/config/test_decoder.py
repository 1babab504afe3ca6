"""The decoder in a config: nested text parts, defaults of a family, and counts beside transformers' own models."""

import json
from contextlib import nullcontext

import pytest
import torch
from omegaconf import OmegaConf
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

from prefix_opd.base.errors import UserError
from prefix_opd.checks import together
from prefix_opd.checks.together import check_family
from prefix_opd.config import decoder
from prefix_opd.config.compose import compose
from prefix_opd.config.decoder import COUNTED_FAMILIES, decoder_config, shape_of
from prefix_opd.config.models import Model
from prefix_opd.cost.arithmetic import stored_parameters
from prefix_opd.cost.plan import plan

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 320,
    "pad_token_id": None,
}
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2}
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 48}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
GEMMA_4 = {"sliding_window": 8, "hidden_size_per_layer_input": 0, "global_head_dim": 32}
FAMILIES = [
    ("llama", {}),
    ("qwen2", {}),
    ("qwen3", {}),
    ("phi3", {}),
    ("mistral", {"sliding_window": 8}),
    ("mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    ("gemma2", {"sliding_window": 8}),
    ("gemma3_text", {"sliding_window": 8}),
    ("gemma4_text", {**GEMMA_4, "num_global_key_value_heads": 1, "attention_k_eq_v": True}),
    ("gemma4_text", {**GEMMA_4, **EXPERTS, "enable_moe_block": True, "top_k_experts": 2}),
    ("glm4_moe", {**EXPERTS, "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1}),
    ("gpt_oss", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    ("qwen2_moe", SHARED),
    ("qwen3_moe", EXPERTS),
    ("qwen3_moe", {**EXPERTS, "decoder_sparse_step": 2, "mlp_only_layers": [3]}),
    ("qwen3_next", {**SHARED, **LINEAR}),
    ("qwen3_5_text", LINEAR),
    ("qwen3_5_moe_text", {**SHARED, **LINEAR}),
]


def test_every_counted_family_is_compared():
    assert {family for family, _ in FAMILIES} == COUNTED_FAMILIES


@pytest.mark.parametrize(("family", "more"), FAMILIES)
def test_parameters_are_those_of_transformers_without_norms_and_biases(family, more):
    published = {"model_type": family, **SIZES, **more}
    found = decoder_config(family, published)
    config = AutoConfig.for_model(**published)
    family = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]  # imported before the device is another
    with torch.device("meta"):
        model = family(config)
    weights = {name: weight.numel() for name, weight in model.named_parameters() if weight.dim() > 1}
    biases = sum(count for name, count in weights.items() if name.endswith("_bias"))  # of gpt-oss's experts
    tied = bool(found.get("tie_word_embeddings", model.config.tie_word_embeddings))
    assert stored_parameters(shape_of(family, found), tied) == sum(weights.values()) - biases


def test_a_family_that_is_not_listed_is_counted_by_transformers_first():
    same = {"model_type": "olmo3", **SIZES, "sliding_window": 8}  # layers of two kinds, as counted
    assert [mixer.window for mixer, _ in shape_of("olmo3", decoder_config("olmo3", same)).layers] == [8, 8, 8, None]
    with pytest.raises(UserError, match=r"family starcoder2 has 1\.\d+e\+05 parameters, and 1\.\d+e\+05 are counted"):
        decoder_config("model", {"model_type": "starcoder2", **SIZES})  # its MLPs have two matrices


def test_gemma_3_completes_what_its_config_leaves_out():
    # google/gemma-3-4b: the published config names neither heads nor vocabulary
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    published = {"model_type": "gemma3", "text_config": {**text, "sliding_window": 1024}, "vision_config": {}}
    found = decoder_config("gemma", published)
    shape = shape_of("gemma", found)
    assert found["tie_word_embeddings"] is True
    assert stored_parameters(shape, tied=True) / 1e9 == pytest.approx(3.88, abs=0.005)  # published: 3.88e9 of text
    assert [mixer.window for mixer, _ in shape.layers][:7] == [1024] * 5 + [None, 1024]


QWEN_3_5 = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "tie_word_embeddings": True,
    "text_config": {
        "model_type": "qwen3_5_text",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "vocab_size": 248320,
        "full_attention_interval": 4,
        "linear_num_value_heads": 16,
        "max_position_embeddings": 262144,
    },
    "vision_config": {"depth": 24},
}


@pytest.mark.parametrize("more", [{}, {"num_key_value_heads": None}])
def test_a_llama_without_key_value_heads_has_as_many_as_heads(more):
    published = {"model_type": "llama", **{name: n for name, n in SIZES.items() if name != "num_key_value_heads"}}
    shape = shape_of("llama", decoder_config("llama", {**published, **more}))
    # four projections of 64 x 64 and three of 64 x 96 a layer; embedding and head
    assert stored_parameters(shape, tied=False) == 4 * (4 * 64 * 64 + 3 * 64 * 96) + 2 * 320 * 64
    del published["vocab_size"]
    with pytest.raises(UserError, match="lacks 'vocab_size'"):  # a size without a default of its own
        shape_of("llama", decoder_config("llama", published))


def test_qwen_3_5_2b_by_hand(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN_3_5))
    model = Model("model", str(tmp_path))
    full = 2048 * (3 * 8 * 256 + 2 * 2 * 256)
    linear = 2048 * (3 * 2048 + 2 * 2048 + 2 * 16) + 4 * 3 * 2048
    layers = 24 * 3 * 2048 * 6144 + 6 * full + 18 * linear
    assert stored_parameters(model.shape, tied=True) == layers + 248320 * 2048 == 1_881_718_784  # published: 1.9e9
    assert model.context == 262144
    config = compose(["experiment=qwen3_8b/schedule", f"actor_rollout_ref.model.path={tmp_path}"])
    engine = plan(config).as_dict()["memory_gib"]["student"]["engine"]
    assert engine["weights"] == pytest.approx(2 * 1_881_718_784 / 2**30)


def test_packed_sequences_with_linear_attention(tmp_path, monkeypatch):
    published = {**QWEN_3_5, "model_type": "qwen3_5"}
    (tmp_path / "config.json").write_text(json.dumps(published))
    config = compose(["experiment=tiny/schedule", "actor_rollout_ref.model.use_remove_padding=true"])
    config.platform, node = "gpu", "actor_rollout_ref.rollout"
    config.actor_rollout_ref.rollout.enable_prefix_caching = False
    monkeypatch.setattr(together, "_is_installed", lambda package: True)
    check_family(config, Model("model", str(tmp_path)), node)  # verl separates their states
    text = {**QWEN_3_5["text_config"], "architectures": ["Qwen3_5ForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match=r"linear attention \(model_type qwen3_5_text\), whose state would run"):
        check_family(config, Model("model", str(tmp_path)), node)
    teacher = "distillation.teacher_models.teacher_model.inference"
    OmegaConf.update(config, f"{teacher}.enable_prefix_caching", False)
    check_family(config, Model("model", str(tmp_path)), teacher)  # it is not updated
    config.actor_rollout_ref.model.use_remove_padding = False
    check_family(config, Model("model", str(tmp_path)), node)


def test_what_vllm_cannot_load_or_cache_is_refused_in_one_line(tmp_path, monkeypatch):
    config, node = compose(["experiment=tiny/schedule"]), "actor_rollout_ref.rollout"
    (tmp_path / "config.json").write_text(json.dumps(QWEN_3_5))
    model = Model("model", str(tmp_path))
    monkeypatch.setattr(together, "_is_installed", lambda package: package != "torchvision")
    with pytest.raises(UserError, match="loads qwen3_5 with the package torchvision, which is not installed"):
        check_family(config, model, node)
    monkeypatch.setattr(together, "_is_installed", lambda package: True)
    with pytest.raises(UserError, match="which vLLM computes in bfloat16 on a CPU"):
        check_family(config, model, node)
    config.platform = "gpu"
    with pytest.raises(
        UserError, match="enable_prefix_caching=true: needs enable_chunked_prefill=true for a model with"
    ):
        check_family(config, model, node)
    config.actor_rollout_ref.rollout.enable_prefix_caching = False
    check_family(config, model, node)


@pytest.mark.parametrize(("width", "refused"), [(32, False), (48, True)])
def test_experts_that_vllm_pads_on_a_cpu(tmp_path, width, refused):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen3_moe", **SIZES, **EXPERTS, "moe_intermediate_size": width})
    )
    model, config = Model("model", str(tmp_path)), compose(["experiment=tiny/schedule"])
    with pytest.raises(UserError, match="experts of width 48, which vLLM on a CPU pads") if refused else nullcontext():
        check_family(config, model, "actor_rollout_ref.rollout")


@pytest.mark.parametrize("experiment", ["qwen3_8b/schedule", "tiny/schedule"])
def test_models_whose_sizes_are_all_named_need_no_transformers(monkeypatch, experiment):
    monkeypatch.setattr(decoder, "_completed", None)
    assert plan(compose([f"experiment={experiment}"])).as_dict()["run"]["parameters"]


@pytest.mark.parametrize(("family", "width"), [("qwen3", 128), ("qwen2", 64 // 4), ("llama", 64 // 4)])
def test_a_head_dimension_that_is_left_out_is_that_of_the_family(family, width):
    published = {"model_type": family, **{name: n for name, n in SIZES.items() if name != "head_dim"}}
    assert {mixer.head_dim for mixer, _ in shape_of(family, decoder_config(family, published)).layers} == {width}


@pytest.mark.parametrize(
    ("family", "rope", "positions"),
    [
        ("llama", None, 1024),
        ("llama", {"type": "linear", "factor": 2.0}, 2 * 1024),
        ("llama", {"rope_type": "dynamic", "factor": 2.0}, 2 * 1024),
        ("qwen2", {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}, 4 * 512),
        ("qwen3", {"rope_type": "yarn", "factor": 4.0}, 4 * 1024),
        (
            "llama",
            {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 256}
            | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
            1024,
        ),
        ("gemma3_text", {"rope_type": "linear", "factor": 8.0}, 1024),
    ],
)
def test_the_context_is_what_vllm_derives(tmp_path, family, rope, positions):
    """vllm/config/model.py: _get_and_verify_max_len."""
    more = {"max_position_embeddings": 1024, **({"rope_scaling": rope} if rope else {})}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, **SIZES, **more}))
    assert Model("model", str(tmp_path)).context == positions


def test_a_context_that_is_left_out_is_that_of_the_family(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **SIZES}))
    assert Model("model", str(tmp_path)).context == 2048  # LLaMA's first models


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"text_config": 3}, "text_config=3, not a group of sizes"),
        ({"text_config": {**SIZES, "hidden_size": -1}}, "hidden_size=-1, not a whole number"),
        ({"architectures": ["A", "B"]}, "as architectures, not one"),
        ({"model_type": "mistral", "sliding_window": "wide"}, "has sliding_window='wide', not a whole number"),
        ({"model_type": ["qwen3"]}, r"has model_type=\['qwen3'\], which transformers does not know"),
        (
            {"model_type": "qwen3_vl", "text_config": SIZES},
            "has no language model of the kind qwen3_vl_text alone; take",
        ),
        ({"model_type": "gpt2"}, "lacks 'hidden_size'; take a decoder of a family that docs/guide.md names"),
        ({"head_dim": None}, "transformers rejects its config.json: .*head_dim.*; correct it, or take another model"),
        ({"tie_word_embeddings": "true"}, "transformers rejects its config.json: .*tie_word_embeddings"),
        ({"rope_scaling": "yarn"}, "transformers rejects its config.json: .*rope_parameters"),
        ({"torch_dtype": "moon"}, "transformers rejects its config.json: .*moon"),
        ({"num_experts": "8", "num_experts_per_tok": 2}, "has num_experts='8', not a whole number; correct it"),
        ({"num_experts": [8], "num_experts_per_tok": 2}, r"has num_experts=\[8\], not a whole number"),
        ({"num_experts": 8, "num_experts_per_tok": 2.5}, "has num_experts_per_tok=2.5, not a whole number"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changed, line):
    with pytest.raises(UserError, match=line) as told:
        decoder_config("model", {"model_type": "qwen3", **SIZES, **changed})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"layer_types": ["full_attention"] * 3}, "has 3 layer_types for 2 layers; name the kind of each layer"),
        ({"layer_types": ["full_attention"]}, "has 1 layer_types for 2 layers"),
        ({"layer_types": "full_attention"}, "has layer_types='full_attention' for 2 layers"),
        ({"layer_types": ["sliding_attention"] * 2, "sliding_window": None}, "lacks 'sliding_window'; take a decoder"),
        ({"layer_types": [{}, {}]}, "has a size of another type"),
        ({"mlp_layer_types": ["dense"], "num_experts": 4, "num_experts_per_tok": 2}, "has 1 mlp_layer_types for 2"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3, which does not divide num_attention_heads=4"),
        ({"num_experts": 4, "num_experts_per_tok": 5}, "has num_experts_per_tok=5 of num_experts=4"),
    ],
)
def test_sizes_that_do_not_fit_one_another_are_refused(changed, line):
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 8}
    with pytest.raises(UserError, match=line) as told:
        shape_of("model", {**sizes, "intermediate_size": 8, "vocab_size": 8, **changed})
    assert "\n" not in str(told.value)
