"""Every experiment and every layout that ships: composed, and checked as before a run."""

import functools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import transformers
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import CONFIG_MODULE, _without_importing_verl, compose
from prefix_opd.config.overrides import options
from prefix_opd.config.settings import Settings
from prefix_opd.data.rows import RL_SCHEMA
from prefix_opd.method.schedule import prefix_lengths
from prefix_opd.miniature import shipped_models

CONFIG = Path(__file__).parents[2] / "recipe" / "prefix_opd" / "config"
LAYOUTS = sorted(path.stem for path in (CONFIG / "layout").glob("*.yaml"))
KINDS = [
    "auto",
    "forward_kl_256",
    "full",
    "last_1024",
    "lora_schedule",
    "lr_2e-4",
    "lr_2e-5",
    "lr_5e-6",
    "prefix_1024",
    "prefix_2048",
    "prefix_256",
    "prefix_512",
    "schedule",
    "schedule_off",
    "topk_schedule",
    "window_0_1024",
    "window_1024_2048",
    "window_2048_3072",
    "window_3072_4096",
]


pytestmark = pytest.mark.usefixtures("cached_files")


@functools.cache
def composed(experiment: str):
    """An experiment without a layout. Tests share the config and must not modify it."""
    return compose([f"experiment={experiment}"])


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory, long_context_models) -> list[str]:
    """Overrides that replace the paper's models and data by tiny ones."""
    row = {
        "data_source": "stand-in",
        "prompt": [{"role": "user", "content": "1+1="}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"split": "train", "index": 0, "id": "", "category": "", "n_options": 0, "question": ""},
    }
    file = tmp_path_factory.mktemp("data") / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([row] * 512, schema=RL_SCHEMA), file)
    models = long_context_models
    return [
        f"actor_rollout_ref.model.path={models['student']}",
        f"distillation.teacher_models.teacher_model.model_path={models['teacher']}",
        f"data.train_files={file}",
        f"data.val_files={file}",
    ]


def test_the_same_kinds_ship_for_both_sizes():
    for pair in ("qwen3_8b", "qwen3_1.7b"):
        found = [name.partition("/")[2] for name in options("experiment") if name.startswith(f"{pair}/")]
        assert [kind for kind in found if kind != "schedule_template"] == KINDS
    small = [name.partition("/")[2] for name in options("experiment") if name.startswith("qwen3_0.6b/")]
    assert small == ["full", "prefix_256", "schedule"]
    assert {"multi_node", "node_8x80gb", "two_gpus", "one_gpu", "one_gpu_24gb"} <= set(LAYOUTS)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_passes_the_whole_check_and_one_of_each_pair_with_every_layout(experiment, stand_ins):
    layouts = LAYOUTS if experiment.endswith("/schedule") else ["node_8x80gb"]
    for layout in [None] if experiment.startswith(("tiny/", "cells/")) else layouts:  # a layout is of GPUs
        if layout == "one_gpu_24gb" and not experiment.startswith("qwen3_0.6b/"):
            continue  # its micro-batch holds no sequence of 18 432 tokens
        chosen = [f"layout={layout}", *stand_ins] if layout else []
        config = compose([f"experiment={experiment}", *chosen])
        settings = check(config)
        assert settings.stop_token_ids
        assert config.actor_rollout_ref.model.custom_chat_template
        micro_batch = config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu
        assert micro_batch >= config.data.max_prompt_length + config.data.max_response_length
        for node in (config.actor_rollout_ref.rollout, config.distillation.teacher_models.teacher_model.inference):
            assert node.gpu_memory_utilization > 0
            if config.prefix_opd.teacher.placement == "shared":
                assert node.engine_kwargs.vllm.kv_cache_memory_bytes >= 2**20


@pytest.mark.parametrize("pair", ["qwen3_8b", "qwen3_1.7b"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_papers_set_up(pair, kind):
    config = composed(f"{pair}/{kind}")
    size = pair.partition("_")[2].upper()
    assert config.actor_rollout_ref.model.path == f"Qwen/Qwen3-{size}-Base"
    assert config.distillation.teacher_models.teacher_model.model_path == "Qwen/Qwen3-8B"
    assert (config.data.train_batch_size, config.actor_rollout_ref.rollout.n) == (512, 4)
    assert config.actor_rollout_ref.actor.ppo_mini_batch_size == 512
    assert config.trainer.total_training_steps == 60
    assert config.data.max_response_length == (4096 if kind == "schedule_off" else 16384)
    assert config.prefix_opd.prompt.ending == (None if kind == "schedule_off" else "<think>")
    assert config.actor_rollout_ref.actor.loss_agg_mode == "seq-mean-token-sum"
    rate = float(kind.removeprefix("lr_")) if kind.startswith("lr_") else 2e-4 if "lora" in kind else 5e-5
    assert config.actor_rollout_ref.actor.optim.lr == rate
    # a folder of its own: verl goes on from what lies in it
    assert config.trainer.default_local_dir == f"outputs/{pair}_{kind}"
    loss = {"forward_kl_256": "forward_kl_topk", "topk_schedule": "reverse_kl_topk", "auto": "reverse_kl_topk"}
    assert config.distillation.distillation_loss.loss_mode == loss.get(kind, "prefix_opd")


def test_a_student_that_thinks_by_its_template():
    config = composed("qwen3_1.7b/schedule_template")
    assert config.actor_rollout_ref.model.path == "Qwen/Qwen3-1.7B"
    assert (config.prefix_opd.prompt.thinking, config.prefix_opd.prompt.ending) == ("template", None)
    assert config.trainer.default_local_dir == "outputs/qwen3_1.7b_schedule_template"


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("full", 16384, 16384),
        ("prefix_256", 256, 256),
        ("prefix_2048", 2048, 2048),
        ("schedule", 1, 1 + 59 * 256),
        ("window_2048_3072", 3072, 3072),
        ("last_1024", 16384, 16384),
        ("lr_2e-4", 1024, 1024),
        ("forward_kl_256", 256, 256),
    ],
)
def test_the_cap_at_the_first_and_the_last_update(kind, first, last):
    config = composed(f"qwen3_8b/{kind}")
    schedule = Settings.from_node(OmegaConf.to_container(config.prefix_opd, resolve=True)).schedule
    assert [prefix_lengths(schedule, step, 1, 16384) for step in (1, 60)] == [[first], [last]]


def test_windows_reach_their_end_and_cover_what_their_name_says():
    for kind in [kind for kind in KINDS if kind.startswith("window")]:
        node = composed(f"qwen3_8b/{kind}").prefix_opd
        start, stop = map(int, kind.split("_")[1:])
        assert (node.weighting.start, node.weighting.stop, node.schedule.length) == (start, stop, stop)
    last = composed("qwen3_8b/last_1024").prefix_opd
    assert (last.weighting.name, last.weighting.tokens) == ("last", 1024)


@pytest.mark.parametrize("pair", ["qwen3_8b", "qwen3_1.7b"])
def test_the_disk_is_bounded_and_a_whole_checkpoint_always_stays(pair):
    config = composed(f"{pair}/schedule")
    checkpoint, trainer = config.prefix_opd.checkpoint, config.trainer
    assert (checkpoint.keep_last, checkpoint.keep_best) == (2, True)
    assert trainer.max_actor_ckpt_to_keep is None and trainer.save_freq % trainer.test_freq == 0


def test_the_sweep_has_the_papers_learning_rates():
    swept = {float(kind.removeprefix("lr_")) for kind in KINDS if kind.startswith("lr_")} | {5e-5}
    assert {5e-5, 2e-5, 5e-6} <= swept  # table 4


def test_the_small_pair_for_a_card_of_24_gb():
    config = composed("qwen3_0.6b/schedule")
    assert config.actor_rollout_ref.model.path == "Qwen/Qwen3-0.6B-Base"
    assert config.distillation.teacher_models.teacher_model.model_path == "Qwen/Qwen3-4B"
    assert (config.data.max_prompt_length, config.data.max_response_length) == (1024, 3072)
    schedule = Settings.from_node(OmegaConf.to_container(config.prefix_opd, resolve=True)).schedule
    assert [prefix_lengths(schedule, step, 1, 3072) for step in (1, 60)] == [[1], [1 + 59 * 48]]


def test_the_gpus_of_a_layout():
    counts = {}
    for layout in LAYOUTS:
        config = compose(["experiment=qwen3_8b/full", f"layout={layout}"])
        student = config.trainer.nnodes * config.trainer.n_gpus_per_node
        teacher = config.distillation.nnodes * config.distillation.n_gpus_per_node
        counts[layout] = (config.prefix_opd.teacher.placement, student, teacher)
        assert 2048 % student == 0
        assert config.actor_rollout_ref.rollout.tensor_model_parallel_size == 1
    assert counts == {
        "multi_node": ("shared", 16, 16),
        "multi_node_dedicated": ("own", 8, 8),
        "node_8x80gb": ("shared", 8, 8),
        "node_8x80gb_dedicated": ("own", 4, 4),
        "one_gpu": ("shared", 1, 1),
        "one_gpu_24gb": ("shared", 1, 1),
        "one_gpu_offload": ("shared", 1, 1),
        "two_gpus": ("own", 1, 1),
    }
    assert compose(["layout=two_gpus"]).ray_kwargs.ray_init.get("address") is None
    assert compose(["layout=multi_node"]).ray_kwargs.ray_init.address == "auto"


@pytest.mark.parametrize(("name", "length"), [("seqkd", 18432), ("seqkd_prefix", 456), ("seqkd_off", 18432)])
def test_seqkd_is_verls_own_trainer_with_the_papers_figures(name, length):
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base=None):
        config = hydra_compose(name, overrides=[_without_importing_verl()])
    assert (config.data.train_batch_size, config.optim.lr, config.trainer.total_training_steps) == (128, 1e-4, 1500)
    assert config.data.max_length == length
    assert config.data.max_token_len_per_gpu >= length
    assert config.data.messages_key == "messages"


@pytest.mark.parametrize(
    ("name", "content", "before"),
    [("seqkd", "<think>\n1+1\n</think>\n2", ""), ("seqkd_off", "2", "<think>\n\n</think>\n\n")],
)
def test_seqkds_template_keeps_the_thinking_or_closes_it(name, content, before):
    """Qwen3's own template drops the text before </think> when verl renders the answer alone."""
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base=None):
        template = hydra_compose(name, overrides=[_without_importing_verl()]).model.custom_chat_template
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(shipped_models()["student"]))
    answer = [{"role": "assistant", "content": content}]
    question = [{"role": "user", "content": "1+1="}]

    def text(messages, **more):
        return tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **more)

    assert text(answer) == f"<|im_start|>assistant\n{before}{content}<|im_end|>\n"
    assert text(question) + text(answer) == text(question + answer)
    assert text(question, add_generation_prompt=True).endswith(f"<|im_end|>\n<|im_start|>assistant\n{before}")
