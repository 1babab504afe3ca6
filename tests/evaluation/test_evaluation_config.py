"""verl's config for an evaluation, composed and checked without starting anything."""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapters import write_adapter
from omegaconf import OmegaConf
from safetensors.torch import save_file

from prefix_opd.base.errors import UserError
from prefix_opd.commands.evaluate import plan_of
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import ATTENTION_KEY, LOOP_KEY, PACKED_ATTENTION
from prefix_opd.config.models import Model
from prefix_opd.evaluation.benchmarks import MINIATURES, Sampling, find
from prefix_opd.evaluation.config import evaluation_config
from prefix_opd.evaluation.target import Target, open_target
from prefix_opd.miniature import shipped_models

STUDENT = str(shipped_models()["student"])
TINY = Sampling(max_tokens=192)


def configure(target=None, sampling=TINY, **more):
    target = target or open_target(STUDENT, None)
    return evaluation_config(target, find(["tiny"], Path("data"), 2, 8), sampling, Path("out"), 4, **more)


def test_only_validation_and_no_teacher():
    config = configure()
    assert config.trainer.val_only and config.trainer.val_before_train and not config.distillation.enabled
    assert config.data.max_response_length == 192 and config.actor_rollout_ref.rollout.val_kwargs.temperature == 1
    assert config.actor_rollout_ref.model.custom_chat_template.endswith("{{ '<think>' }}{% endif %}")


@pytest.mark.parametrize(("experiment", "row"), [("schedule", "prefix schedule"), ("topk_schedule", ""), (None, None)])
def test_what_an_evaluation_says_of_the_runs_method(experiment, row):
    target = open_target(STUDENT, None)
    if experiment:
        target = replace(target, run_config=compose([f"experiment=qwen3_1.7b/{experiment}"]))
    plan = plan_of(configure(), target, find(["tiny"], Path("data"), 2, 8), TINY)
    assert plan["about"]["paper_run"] == row


def test_the_second_miniature_is_asked_its_own_problems_at_its_own_length():
    model = str(shipped_models()["cells_student"])
    (asked,) = find(["cells"], Path("data"), 2, 8)
    sampling = Sampling(max_tokens=MINIATURES["cells"][1])
    config = evaluation_config(open_target(model, None), [asked], sampling, Path("out"), 4)
    own = compose(["experiment=cells/full"])
    assert str(asked.path) == own.data.val_files and "/cells-" in own.data.val_files
    assert config.data.max_response_length == own.data.max_response_length == 336


def test_stopped_as_in_training():
    # the student ends with 259; a teacher's 261 stops it too once the teacher is named
    own = Model("model", STUDENT).end_token_ids
    theirs = Model("teacher", str(shipped_models()["teacher"])).end_token_ids
    trained = sorted({*own, *theirs})
    assert list(configure().prefix_opd.stop_token_ids) == trained, "the tiny experiment names its teacher"
    assert list(configure(overrides=["prefix_opd.rollout.stop=student"]).prefix_opd.stop_token_ids) == own
    assert list(configure(teacher=STUDENT).prefix_opd.stop_token_ids) == own


def test_a_runs_checkpoint_is_asked_as_the_run_was():
    run = compose(["experiment=tiny/schedule", "actor_rollout_ref.rollout.max_num_seqs=77"])
    run.prefix_opd.prompt.ending = None
    run.prefix_opd.stop_token_ids = [5]
    run.prefix_opd.ignore_own_end_token = True
    target = Target("run", Model("model", STUDENT), Path("out"), Path("run"), run, 2)
    config = configure(target)
    assert config.actor_rollout_ref.model.custom_chat_template is None
    assert config.prefix_opd.stop_token_ids == [5] and config.prefix_opd.ignore_own_end_token
    assert config.actor_rollout_ref.rollout.max_num_seqs == 77
    assert configure().reward.custom_reward_function.reward_kwargs.prompt_ending == "<think>"
    assert config.reward.custom_reward_function.reward_kwargs.prompt_ending is None, "graded without thinking, too"
    config = configure(target, overrides=["actor_rollout_ref.rollout.max_num_seqs=88"])
    assert config.actor_rollout_ref.rollout.max_num_seqs == 88, "what the user says wins"


@pytest.mark.parametrize(("address", "joined"), [("auto", "auto"), ("10.0.0.1:6379", None)])
def test_an_evaluation_of_a_run_on_several_nodes_joins_the_cluster_of_this_machine(address, joined):
    run = compose(["experiment=qwen3_1.7b/schedule", "layout=multi_node", f"ray_kwargs.ray_init.address={address}"])
    run.prefix_opd.stop_token_ids, run.prefix_opd.ignore_own_end_token = [5], True
    target = Target("run", Model("model", STUDENT), Path("out"), Path("run"), run, 2)
    config = configure(target, overrides=["platform=gpu"])
    assert config.trainer.nnodes == 2 and OmegaConf.select(config, "ray_kwargs.ray_init.address") == joined
    alone = configure(target, overrides=["platform=gpu", "trainer.nnodes=1", "+ray_kwargs.ray_init.address=null"])
    assert alone.trainer.nnodes == 1 and alone.ray_kwargs.ray_init.address is None


@pytest.mark.parametrize(
    ("layout", "asked"),
    # 4 GPUs of the student and 4 of the teacher on one machine; 8 and 8, which are two nodes of a cluster
    [("node_8x80gb_dedicated", 8), ("multi_node_dedicated", 8), ("multi_node", 8)],
)
def test_no_node_is_asked_for_more_gpus_than_it_has(layout, asked):
    run = compose(["experiment=qwen3_1.7b/schedule", f"layout={layout}"])
    run.prefix_opd.stop_token_ids, run.prefix_opd.ignore_own_end_token = [5], True
    target = Target("run", Model("model", STUDENT), Path("out"), Path("run"), run, 2)
    assert configure(target, overrides=["platform=gpu"]).trainer.n_gpus_per_node == asked


BYTES = "actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes"


@pytest.mark.parametrize(
    ("gpus", "share", "offloaded", "kv_bytes"),
    [
        (None, 0.01, False, 45 << 30),  # the run's eight
        # one GPU would hold 12 B x 8.19e9 of the trainer, 2 B x 8.19e9 of the engine and a cache made for eight ranks
        (1, 0.8, True, None),
    ],
)
def test_memory_that_fits_eight_gpus_is_not_taken_over_by_one(gpus, share, offloaded, kv_bytes):
    fitted = [f"+{BYTES}={45 << 30}", "actor_rollout_ref.rollout.gpu_memory_utilization=0.01"]
    run = compose(["experiment=qwen3_8b/schedule", "layout=node_8x80gb", *fitted])
    run.prefix_opd.stop_token_ids, run.prefix_opd.ignore_own_end_token = [5], True
    target = Target("run", Model("model", STUDENT), Path("out"), Path("run"), run, 2)
    config = configure(target, gpus=gpus, overrides=["platform=gpu"])
    assert config.actor_rollout_ref.rollout.gpu_memory_utilization == share
    assert config.actor_rollout_ref.actor.fsdp_config.param_offload is offloaded
    assert OmegaConf.select(config, BYTES) == kv_bytes
    assert config.actor_rollout_ref.rollout.max_num_seqs == 256, "the rest of the engine is the run's"
    said = configure(target, gpus=gpus, overrides=["platform=gpu", f"+{BYTES}=5"])
    assert OmegaConf.select(said, BYTES) == 5


def test_on_a_cpu_an_engine_keeps_its_bytes():
    run = compose(["experiment=tiny/schedule", f"{BYTES}=77000000"])
    run.prefix_opd.stop_token_ids, run.prefix_opd.ignore_own_end_token = [5], True
    target = Target("run", Model("model", STUDENT), Path("out"), Path("run"), run, 2)
    assert OmegaConf.select(configure(target, gpus=2), BYTES) == 77_000_000


def test_a_runs_agent_loop_is_named_by_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_loops.py").write_text("class Loop(AgentLoopBase): ...\n")
    run = compose(["experiment=tiny/schedule", f"{LOOP_KEY}=my_loops.Loop", "prefix_opd.rollout.tool_tokens=40"])
    target = Target("run", Model("model", STUDENT), Path("out"), Path("run"), run, 2)
    with pytest.raises(UserError, match=f"{LOOP_KEY}=my_loops.Loop: is the agent loop of this run, and .* add it"):
        configure(target)
    config = configure(target, overrides=[f"{LOOP_KEY}=my_loops.Loop"])
    assert config.actor_rollout_ref.rollout.agent.default_agent_loop == "my_loops.Loop"
    assert config.data.max_response_length == 192 and config.actor_rollout_ref.rollout.response_length == 232
    assert config.actor_rollout_ref.rollout.max_model_len == config.data.max_prompt_length + 232 + 1
    alone = configure(target, overrides=[f"{LOOP_KEY}=single_turn_agent", "prefix_opd.rollout.tool_tokens=0"])
    assert alone.actor_rollout_ref.rollout.response_length == 192


def test_an_engine_gets_the_share_that_a_training_layout_leaves_open():
    config = configure(overrides=["platform=gpu", "layout=one_gpu"])
    assert config.actor_rollout_ref.rollout.gpu_memory_utilization == 0.8
    assert config.actor_rollout_ref.actor.fsdp_config.param_offload
    config = configure(overrides=["platform=gpu", "layout=node_8x80gb_dedicated"])
    assert config.actor_rollout_ref.rollout.gpu_memory_utilization == 0.8


def test_the_bucket_for_weights_fits_the_largest_tensor_as_in_training(tmp_path):
    folder = shutil.copytree(STUDENT, tmp_path / "wide")
    save_file(
        {"model.rotary_emb.inv_freq": torch.zeros((28 << 20) + 1, dtype=torch.uint8)}, folder / "more.safetensors"
    )
    config = configure(open_target(str(folder), None))
    assert config.actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes == 113


def test_the_attention_is_one_that_is_installed_as_in_training():
    config = configure(teacher=STUDENT, overrides=["experiment=qwen3_1.7b/full", "layout=one_gpu"])
    wanted = None if importlib.util.find_spec("flash_attn") else PACKED_ATTENTION
    assert OmegaConf.select(config, ATTENTION_KEY) == wanted


def test_a_template_that_has_the_ending_already_gets_no_second_one(tmp_path):
    exported = tmp_path / "exported"
    shutil.copytree(STUDENT, exported)
    template = exported / "chat_template.jinja"
    template.write_text(template.read_text().rstrip("\n") + "{% if add_generation_prompt %}<think>{% endif %}")
    assert configure(open_target(str(exported), None)).actor_rollout_ref.model.custom_chat_template is None


def test_room_for_the_longest_prompt():
    with pytest.raises(UserError, match=r"--max-tokens=1020: exceeds the model's context of 1024 tokens"):
        configure(sampling=Sampling(max_tokens=1020))
    with pytest.raises(UserError, match=r"data.max_prompt_length=2: the longest prompt has"):
        configure(overrides=["data.max_prompt_length=2"])


def test_k_of_the_paper(tmp_path):
    source = find(["tiny"], tmp_path)[0].path
    for name in ("aime2024", "math500"):
        (tmp_path / name).mkdir()
        shutil.copy(source, tmp_path / name / "test.parquet")
    assert {one.name: one.samples for one in find([], tmp_path)} == {"math500": 4, "aime2024": 16}
    assert [one.samples for one in find(["aime2024"], tmp_path, k=3)] == [3]
    assert [one.samples for one in find([str(tmp_path / "aime2024" / "test.parquet")], tmp_path)] == [16]


def test_a_fingerprint_tells_models_apart(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(STUDENT, copy)
    before = open_target(str(copy), None).fingerprint
    assert before == open_target(STUDENT, None).fingerprint, "the same model in another place"
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert open_target(str(copy), None).fingerprint != before


def test_an_adapter_is_merged_once_for_its_content(tmp_path):
    folder = write_adapter(tmp_path / "mine")
    first = open_target(str(folder), None)
    assert first.lora.label == "LoRA of rank 4" and first.name == "mine"
    assert configure(first).actor_rollout_ref.model.path == first.model.path
    assert open_target(str(folder), None).model.path == first.model.path
    other = open_target(str(write_adapter(tmp_path / "mine", rank=2)), None)
    assert other.model.path != first.model.path and other.fingerprint != first.fingerprint
