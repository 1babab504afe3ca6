"""The list of cases: every run of verl composes and passes the checks, and means what its case says."""

import importlib
import sys

import pytest
import yaml
from omegaconf import OmegaConf
from verl.utils import tracking

from benchmarks.cases import (
    BESIDE,
    GROUPS,
    NATIVE,
    NATIVE_POLL,
    OURS,
    RECOMPUTED,
    SEEDED,
    SWITCHED,
    TRL,
    VERLS_OWN,
    WITHOUT,
    Case,
    small,
    unique,
)
from benchmarks.models import SIZES, qwen3_config
from benchmarks.prompts import write_prompts
from benchmarks.table import SECTIONS
from benchmarks.verl_run import overrides
from prefix_opd.config.settings import Settings
from prefix_opd.launch import prepare
from prefix_opd.method.schedule import prefix_lengths
from prefix_opd.miniature import shipped_models
from prefix_opd.verl_plugin.our_run import SWITCHES

OF_VERL = [case for case in unique(GROUPS) if case.system not in TRL]


def _prepared(case, tmp_path):
    # the models of other sizes are made by the benchmark itself; their paths alone would differ
    return prepare(overrides(case, tmp_path, shipped_models()), verls_own=case.system in VERLS_OWN)


@pytest.mark.parametrize(
    "case",
    [
        OF_VERL[0],
        next(case for case in OF_VERL if case.ranks == 2),
        Case(OURS, (16,), longest=768),
        Case(OURS, (16,), message=(20, 400)),
    ],
    ids=lambda case: case.name,
)
def test_ours_composes_with_the_caps_of_the_case(case, tmp_path):
    if case.message:
        write_prompts(case.message, tmp_path)
    config = _prepared(case, tmp_path)
    settings = Settings.from_node(config.prefix_opd)
    for step in range(1, case.steps + 1):
        assert prefix_lengths(settings.schedule, step, 1, config.data.max_response_length) == [case.cap_of(step)]
    assert config.trainer.total_training_steps == case.steps
    assert config.trainer.n_gpus_per_node == case.ranks
    assert config.ray_kwargs.ray_init.num_gpus == case.ranks + 1
    assert config.data.max_prompt_length == 32 + (case.message[1] if case.message else 0)
    context = config.data.max_prompt_length + case.longest + 1
    assert config.actor_rollout_ref.rollout.max_model_len == context
    assert config.distillation.teacher_models.teacher_model.inference.max_model_len == context
    # a seed for each rollout would cost ours what verl's own does not pay
    assert settings.rollout.seeded is None


def test_each_saving_is_undone_alone(tmp_path):
    def settings(without):
        return Settings.from_node(_prepared(Case(OURS, (16,), without=without), tmp_path).prefix_opd).model_dump()

    with_all, changed = settings(""), {}
    for saving in WITHOUT:
        undone = settings(saving)
        changed[saving] = {name for name in undone if undone[name] != with_all[name]}
    assert list(changed.values()) == [{"rollout"}, {"poll_seconds"}, {"advantage"}, {"rollout"}, {"update"}, {"update"}]
    assert settings(SEEDED)["rollout"]["seeded"] == 0
    assert [Case(OURS, (16,), without=saving).recomputes for saving in ("", RECOMPUTED)] == [False, True]


@pytest.mark.parametrize("saving", SWITCHED)
def test_a_saving_and_nothing_else_is_switched_off(saving, tmp_path):
    def leaves(without):
        config = _prepared(Case(OURS, (16,), without=without), tmp_path)
        return _leaves(OmegaConf.to_container(config, resolve=True))

    def named(without):
        pairs = (override.split("=") for override in (WITHOUT | SWITCHED).get(without, "").split())
        return {key.split(".")[-1]: yaml.safe_load(value) for key, value in pairs}

    beside = BESIDE.get(saving, "")
    off, on = leaves(saving), leaves(beside)
    # a setting of ours stands in the loss's config, too
    changed = {key.split(".")[-1]: off[key] for key in off if off[key] != on[key]}
    assert changed == {key: value for key, value in named(saving).items() if key not in named(beside)}


def _leaves(node, key=""):
    if not isinstance(node, dict):
        return {key: node}
    return {leaf: value for name in node for leaf, value in _leaves(node[name], f"{key}.{name}").items()}


def test_responses_that_end_by_themselves(tmp_path):
    config = _prepared(Case(OURS, (16,), natural=True), tmp_path)
    assert config.actor_rollout_ref.rollout.ignore_eos is False
    assert config.prefix_opd.stop_token_ids == [259, 261]
    assert config.prefix_opd.rollout.seeded == config.actor_rollout_ref.rollout.seed


def test_one_step_early_and_nothing_else(tmp_path):
    strict, early = (
        Settings.from_node(_prepared(Case(OURS, (16,), early=early), tmp_path).prefix_opd) for early in (False, True)
    )
    assert (strict.rollout.off_policy_steps, early.rollout.off_policy_steps) == (0, 1)
    assert {name for name in type(strict).model_fields if getattr(strict, name) != getattr(early, name)} == {
        "rollout",
        "advantage",
    }


def test_native_is_verls_own_trainer_agent_loop_and_loss(tmp_path):
    case = next(case for case in OF_VERL if case.system == NATIVE)
    ours, native = (_prepared(Case(system, case.caps), tmp_path) for system in (OURS, NATIVE))
    assert native.trainer.v1.trainer_mode == "sync"
    assert native.actor_rollout_ref.rollout.agent.agent_loop_manager_class is None
    loss = native.distillation.distillation_loss
    assert (loss.loss_mode, loss.use_policy_gradient, loss.use_task_rewards) == ("k1", True, False)
    acting = {name for name in SWITCHES if name not in native.prefix_opd.patches_off}
    same = {"log_probs", "teacher_scores", "warm_python", "cpu_sampler", "cpu_threads"}
    assert acting == same | {"weight_socket", "loopback", "safe_loading"}
    assert native.data.max_response_length == case.caps[0]
    for node in ("model", "actor"):
        assert native.actor_rollout_ref[node] == ours.actor_rollout_ref[node]


def test_verls_own_run_with_our_poll_differs_in_the_poll_alone(tmp_path, monkeypatch):
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    own, ours = overrides(Case(NATIVE, (16,)), tmp_path, {}), overrides(Case(NATIVE_POLL, (16,)), tmp_path, {})
    assert own == ours
    trainer = object.__new__(PPOTrainerSync)  # its config and what its buffer needs of it; nothing is started
    trainer.config, trainer.trainer_mode = _prepared(Case(NATIVE, (16,)), tmp_path), "sync"
    assert trainer._build_replay_buffer().poll_interval == 2.0
    monkeypatch.setattr(PPOTrainerSync, "_build_replay_buffer", PPOTrainerSync._build_replay_buffer)
    monkeypatch.setattr(tracking, "FileLogger", tracking.FileLogger)
    monkeypatch.delitem(sys.modules, "benchmarks.poll", raising=False)
    importlib.import_module("benchmarks.poll")
    settings = Settings.from_node(_prepared(Case(OURS, (16,)), tmp_path).prefix_opd)
    assert trainer._build_replay_buffer().poll_interval == settings.poll_seconds == 0.05


@pytest.mark.parametrize("groups", [GROUPS, small(GROUPS)], ids=["all", "small"])
def test_every_group_has_cases_and_a_section(groups):
    assert groups.keys() == SECTIONS.keys()
    assert all(groups.values())
    names = [case.name for case in unique(groups)]
    assert len(set(names)) == len(names)


def test_steps_that_count():
    case = Case(OURS, (8, 16), warm=1, measured=2)
    assert [(case.cap_of(step), case.counts(step)) for step in range(1, case.steps + 1)] == [
        (8, False),
        (8, True),
        (8, True),
        (16, False),
        (16, True),
        (16, True),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"system": "mine"},
        {"system": NATIVE, "caps": (8, 16)},
        {"system": TRL[0], "ranks": 2},
        {"caps": (16, 256)},
        {"without": "sleep"},
        {"system": NATIVE, "without": RECOMPUTED},
        {"system": NATIVE, "early": True},
        {"system": NATIVE_POLL, "observed": True},
        {"system": NATIVE, "message": (20, 400)},
        {"system": NATIVE, "natural": True},
        {"warm": 0},
    ],
)
def test_a_case_that_cannot_be_meant(wrong):
    with pytest.raises(ValueError):
        Case(**{"system": OURS, "caps": (16,), **wrong})


@pytest.mark.parametrize("name", SIZES)
def test_a_size_has_the_parameters_of_its_name(name):
    import torch
    from transformers import Qwen3ForCausalLM

    with torch.device("meta"):
        model = Qwen3ForCausalLM(qwen3_config(SIZES[name], shipped_models()["student"]))
    named = float(name.removesuffix("M")) * 1e6
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(named, rel=0.4)
