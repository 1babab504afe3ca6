"""Which models are refused for what they are, everywhere alike; and sizes by their headers."""

import json
import shutil
from types import SimpleNamespace

import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.checks.preflight import fit_bucket
from prefix_opd.config.compose import compose
from prefix_opd.config.models import ADAPTER_FILE, INDEX, WHOLE, Model
from prefix_opd.cost.plan import plan
from prefix_opd.evaluation.target import check_model
from prefix_opd.miniature import shipped_models

KINDS = [
    ({"kv_lora_rank": 512}, "has latent attention"),
    ({"layer_types": ["linear_attention", "full_attention"] * 2}, "has layers of the kind linear_attention"),
    ({"is_encoder_decoder": True}, "has an encoder"),
    ({"architectures": ["AForCausalLM", "BForCausalLM"]}, r"as architectures, not one"),
    ({"num_experts": 8}, "lacks 'num_experts_per_tok'"),
]


@pytest.fixture
def student(tmp_path):
    return shutil.copytree(shipped_models()["student"], tmp_path / "student")


def change(folder, **changed):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize(("changed", "line"), KINDS, ids=[line for _, line in KINDS])
def test_what_is_not_counted_is_refused_by_check_plan_doctor_and_evaluate(student, changed, line):
    change(student, **changed)
    config = compose(["experiment=tiny/schedule", f"actor_rollout_ref.model.path={student}"])
    model = Model("actor_rollout_ref.model.path", str(student))
    # check and doctor ask the model for its shape, evaluate looks at it by `check_model`
    for look in (lambda: model.shape, lambda: plan(config), lambda: check_model(model)):
        with pytest.raises(UserError, match=line) as told:
            look()
        assert "\n" not in str(told.value)


def test_the_bucket_for_weights_fits_the_largest_tensor():
    config = compose(["experiment=tiny/schedule"])
    bucket = config.actor_rollout_ref.rollout.checkpoint_engine
    fit_bucket(config, SimpleNamespace(largest_tensor=16 << 20))  # x 4 bytes: exactly the 64 MiB that it has
    assert bucket.update_weights_bucket_megabytes == 64
    fit_bucket(config, SimpleNamespace(largest_tensor=49_152 * 576))  # SmolLM2-135M's embedding: 108 MiB in fp32
    assert bucket.update_weights_bucket_megabytes == 108
    fit_bucket(config, SimpleNamespace(largest_tensor=(27 << 20) + 1))
    assert bucket.update_weights_bucket_megabytes == 109


def test_the_largest_tensor_by_hand(student):
    model = Model("model", str(student))
    shape = model.shape
    assert model.largest_tensor == shape.hidden_size * max(shape.vocab_size, shape.mlp_width)
    for path in student.glob("*.safetensors"):
        path.unlink()
    # SmolLM2-135M: an embedding of 49 152 x 576
    change(student, vocab_size=49_152, hidden_size=576, intermediate_size=1536)
    assert Model("model", str(student)).largest_tensor == 28_311_552
    # with experts: transformers keeps gate and up of all 8 in one tensor
    change(student, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=4096)
    assert Model("model", str(student)).largest_tensor == 8 * 2 * 4096 * 576


def test_a_tokenizer_that_loads_and_does_not_encode_is_refused(student):
    path = student / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": "many"}))
    with pytest.raises(UserError, match="its tokenizer does not load: .*; give the tokenizer files"):
        Model("actor_rollout_ref.model.path", str(student)).tokenizer  # noqa: B018


def no_config(folder):
    (folder / "config.json").unlink()


def deep(folder):
    (folder / "config.json").write_text('{"a":' * 20_000)


def adapter(folder):
    (folder / ADAPTER_FILE).write_text("{}")


def unnamed_shards(folder):
    (folder / WHOLE).rename(folder / "model-1.safetensors")
    (folder / INDEX).write_text('{"weight_map": ["model-1.safetensors"]}')


def packed(folder):
    change(folder, compression_config={"quant_method": "compressed-tensors"})


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ((no_config,), "is not a model folder: it has no config.json"),
        ((deep,), "its config.json is not JSON .maximum recursion depth"),
        ((adapter,), r"is an adapter \(adapter_config.json\); name its base, or merge the adapter into it"),
        ((adapter, no_config), r"is an adapter \(adapter_config.json\)"),
        ((unnamed_shards,), "its model.safetensors.index.json names no file of weights; copy the whole folder"),
        ((packed,), r"its weights are quantised \(compressed-tensors\)"),  # the key of older files
    ],
)
def test_a_folder_that_is_no_plain_model_is_refused(student, broken, line):
    for one in broken:
        one(student)
    with pytest.raises(UserError, match=line) as told:
        check_model(Model("model", str(student)))
    assert "\n" not in str(told.value)


def test_a_folder_without_tokenizer_files_is_refused(student):
    """transformers makes a tokenizer of special tokens alone."""
    for path in student.iterdir():
        if path.name not in ("config.json", WHOLE):
            path.unlink()
    with pytest.raises(
        UserError, match="its tokenizer has no tokens beside the special ones; give the tokenizer files"
    ):
        Model("model", str(student)).tokenizer  # noqa: B018


@pytest.mark.parametrize(("name", "prompt"), [("default", "5+7"), ("rag", None)])
def test_of_several_chat_templates_the_default_one_is_taken(student, name, prompt):
    (student / "chat_template.jinja").unlink(missing_ok=True)
    named = [{"name": name, "template": "{{ messages[0]['content'] }}"}, {"name": "tool_use", "template": "x"}]
    path = student / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": named}))
    model = Model("model", str(student))
    if prompt is None:
        assert model.tokenizer.chat_template is None
    else:
        assert model.prompt([{"role": "user", "content": "5+7"}]) == prompt
