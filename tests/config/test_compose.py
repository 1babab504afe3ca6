"""What ships composes, holds verl's keys and ours, and works from any folder."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config import compose as compose_module
from prefix_opd.config import overrides
from prefix_opd.config.compose import compose
from prefix_opd.config.overrides import options
from prefix_opd.config.settings import CHOICES, Settings


def test_the_tiny_experiments_are_there():
    shipped = set(options("experiment"))
    assert {"tiny/schedule", "tiny/full", "tiny/prefix_24", "tiny/last_24", "cells/full"} <= shipped
    assert not any(name.endswith("base") for name in shipped)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = compose([f"experiment={experiment}"])
    Settings.from_node(config.prefix_opd)
    assert config.actor_rollout_ref.actor.loss_agg_mode == "seq-mean-token-sum"
    assert config.trainer.v1.trainer_mode == "prefix_opd"
    # one update a step, as in the paper
    assert config.actor_rollout_ref.actor.ppo_mini_batch_size == config.data.train_batch_size
    # verl's reward model is off; its engine name is the one key that verl leaves open
    assert sorted(OmegaConf.missing_keys(config)) == ["reward.reward_model.rollout.name"]


def test_a_run_is_named_after_its_experiment_unless_it_is_named():
    assert compose(["experiment=tiny/full"]).trainer.experiment_name == "tiny_full"
    assert compose(["experiment=tiny/full", "trainer.experiment_name=mine"]).trainer.experiment_name == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "defaults:\n  - tiny/schedule\n",
            "tiny/schedule: its defaults name experiment/tiny/tiny/base, which",
        ),
        ("defaults:\n  - tiny/base\n  - nothing\n", "tiny/mine: its defaults name experiment/nothing, which does not"),
        ("defaults:\n  - tiny/base\ndata: [1, {\n", "mine.yaml, line 5: is not valid YAML: expected the node content"),
        ("data: {seed: 1}\ndata: {seed: 2}\n", "mine.yaml, line 3: is not valid YAML: found duplicate key data"),
    ],
)
def test_an_experiment_of_ones_own_that_is_broken(text, said, tmp_path, monkeypatch):
    assert said in _refusal("experiment", "tiny/mine", text, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("group", "text", "said"),
    [
        ("layout", "- nothing", "its defaults name layout/nothing, which does not exist; known: mine, other"),
        ("layout", "- /platform: gp", "its defaults name platform/gp, which does not exist; known: mine, other"),
        (
            "layout",
            "- /actor@a: nil",
            "its defaults name actor/nil, which does not exist; name a file of verl's config",
        ),
        ("platform", "- nothing", "its defaults name platform/nothing, which does not exist; known: mine, other"),
    ],
)
def test_a_layout_or_platform_of_ones_own_that_names_what_does_not_exist(group, text, said, tmp_path, monkeypatch):
    told = _refusal(group, "mine", f"defaults:\n  {text}\n", tmp_path, monkeypatch)
    assert told == f"{group}/mine: {said}"


def _refusal(group, name, text, folder, monkeypatch):
    """The line for a config file of the user's own."""
    path = folder / group / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"# @package _global_\n{text}")
    searched = compose_module._without_importing_verl().replace("]", f",file://{folder}]")
    monkeypatch.setattr(compose_module, "_without_importing_verl", lambda: searched)
    for module in (overrides, compose_module):
        monkeypatch.setattr(module, "options", lambda group: [name, "other"])
    with pytest.raises(UserError) as error:
        compose([f"{group}={name}"])
    assert "\n" not in str(error.value)
    return str(error.value)


def test_our_settings_and_the_yaml_name_the_same_keys():
    """Finds a declared field that is missing in the YAML, and a YAML key that nothing reads."""

    def keys(node, prefix=""):
        for name, value in node.items():
            yield f"{prefix}{name}"
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{name}.")

    declared = {name: value for name, value in Settings().model_dump().items() if name not in CHOICES}
    for group, registry in CHOICES.items():
        declared[group] = {"name": None, **registry.fields()}
    assert set(keys(OmegaConf.to_container(compose([]).prefix_opd, resolve=True))) == set(keys(declared))


def test_the_defaults_are_those_of_the_yaml():
    of_the_platform = [f"prefix_opd.update.{name}=false" for name in ("fused_head", "compile_layers", "fit_memory")]
    follows_the_data = "prefix_opd.teacher_prompt.max_length=null"
    assert Settings.from_node(compose([*of_the_platform, follows_the_data]).prefix_opd) == Settings()


def test_the_platform_is_a_choice():
    assert compose([]).platform == "gpu"
    assert compose(["experiment=tiny/full"]).platform == "cpu"
    assert compose(["experiment=tiny/full", "platform=gpu"]).platform == "gpu"


def test_an_error_in_a_value_is_told_too():
    with pytest.raises(UserError, match="did you mean tiny/full"):
        compose(["experiment=tiny/ful"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=tiny/schedule", "prefix_opd.schedule.start=3", "+trainer.new.key=1", "~data.shuffle"],
        ["experiment=qwen3_8b/full", "layout=two_gpus", "trainer.logger=[console]", "prefix_opd={accelerator: h100}"],
        ["platform=gpu", "data.seed=1", "data.seed=2"],
        ["experiment=tiny/schedule", "prefix_opd.schedule.incremnt=8"],
    ],
)
def test_a_test_composes_as_a_run_does(overrides, monkeypatch):
    """`conftest.compose_once` gives Hydra's own config, or its own error."""

    def composed():
        try:
            config = compose(overrides)
        except UserError as error:
            return str(error)
        return OmegaConf.to_yaml(config), config._get_flag("struct")

    ours = composed()
    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", ConfigLoaderImpl._load_configuration_impl.whole)
    assert composed() == ours
