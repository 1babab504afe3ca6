"""Which keys may be set: every other one is refused in one line, and the tables agree with verl's own."""

import ast
import importlib.util
import json
import pickle
from pathlib import Path

import bad_keys
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from typer.testing import CliRunner

from prefix_opd import cli, launch
from prefix_opd.base.errors import UserError
from prefix_opd.checks.keys import CPU_CLOSED, FREE
from prefix_opd.checks.preflight import check
from prefix_opd.checks.reasons import REASONS
from prefix_opd.checks.services import TRACKERS
from prefix_opd.checks.surface import _defaults, check_surface
from prefix_opd.config.compose import compose
from prefix_opd.config.overrides import options
from prefix_opd.launch import _make_paths_absolute


@pytest.fixture(scope="module")
def composed():
    return compose(["experiment=tiny/schedule"])


def overridden(config: DictConfig, override: str) -> DictConfig:
    """The config with one override applied as Hydra does, without composing again."""
    changed = pickle.loads(pickle.dumps(config))  # a quarter of the time of copy.deepcopy
    parsed = OverridesParser.create().parse_override(override)
    with open_dict(changed):
        if parsed.is_delete():
            node, _, name = parsed.key_or_group.rpartition(".")
            del OmegaConf.select(changed, node)[name]
        else:
            OmegaConf.update(changed, parsed.key_or_group, parsed.value(), force_add=True)
    return changed


@pytest.mark.parametrize(
    ("overrides", "line"), bad_keys.BY_KEY, ids=[" ".join(row[0])[-70:] for row in bad_keys.BY_KEY]
)
def test_a_key_that_a_run_does_not_read_or_a_value_that_breaks_its_rule(composed, overrides, line):
    with pytest.raises(UserError) as refused:
        check_surface(overridden(composed, *overrides))
    assert line in str(refused.value)


SHIPPED = [[f"experiment={name}"] for name in options("experiment") if name.startswith(("tiny/", "cells/"))]
SHIPPED += [
    [f"experiment=qwen3_8b/{kind}", "layout=node_8x80gb"] for kind in ("schedule", "forward_kl_256", "last_1024")
]
SHIPPED += [["experiment=qwen3_1.7b/lr_2e-4", f"layout={layout}"] for layout in ("two_gpus", "multi_node")]


@pytest.mark.parametrize("overrides", SHIPPED, ids=[" ".join(overrides) for overrides in SHIPPED])
def test_what_ships_sets_what_may_be_set(overrides):
    check_surface(compose(overrides))


def test_what_is_written_as_its_default_is_no_setting(composed):
    check_surface(overridden(composed, "actor_rollout_ref.actor.use_kl_loss=false"))
    check_surface(overridden(composed, "critic.rollout_n=4"))  # what ${...} resolves to there


def test_the_tables_name_keys_that_exist():
    known = {**_defaults("cpu")[0], **_defaults("gpu")[0]}
    added = ("mixed_precision.", "override_config.", "override_optimizer_config.", "engine_kwargs.vllm.", "ray_init.")
    for key in [*FREE, *CPU_CLOSED]:
        named = key in known or (key.endswith(".") and any(name.startswith(key[:-1]) for name in known))
        assert named or any(part in key for part in (*added, "enable_sleep_mode", "reward_kwargs.")), key
    groups = {".".join(key.split(".")[:end]) for key in known for end in range(1, key.count(".") + 2)}
    only_added = {"data.datagen", "data.sampler", "actor_rollout_ref.model.target_parameters"}
    only_added |= {"actor_rollout_ref.actor.fsdp_config.mixed_precision.buffer_dtype"}
    assert set(REASONS) - groups <= only_added


scalars = st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | st.text(max_size=8)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=6), scalars, max_size=2)


def _keys():
    """Every key and every group of verl's and our config."""
    leaves = _defaults("cpu")[0]
    groups = {".".join(key.split(".")[:end]) for key in leaves for end in range(1, key.count(".") + 1)}
    # those that may be set more often than those that may not, which all end in one function
    return st.sampled_from([key for key in leaves if key in FREE]) | st.sampled_from(sorted({*leaves, *groups}))


@settings(max_examples=150, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@example({"actor_rollout_ref.actor.checkpoint.save_contents": ["model", "optimizer", "extra", 5]})
@example({"trainer.logger": [None]})
@example({"reward.custom_reward_function.path": "pkg://"})
@example({"reward.custom_reward_function.path": "\0"})
@example({"data.apply_chat_template_kwargs": {"tokenize": True}})
@example({"ray_kwargs.ray_init.address": "nowhere"})
@given(st.dictionaries(_keys(), values, min_size=1, max_size=3))
def test_a_config_of_any_values_is_accepted_or_refused_in_one_line(composed, changes):
    """After composing, `prefix-opd train --check` exits with code 0 or 2, without a traceback."""
    changed = pickle.loads(pickle.dumps(composed))
    try:
        for key, value in changes.items():
            OmegaConf.update(changed, key, value, merge=False, force_add=True)
        OmegaConf.to_container(changed, resolve=True)  # as `compose` does first
    except (OmegaConfBaseException, AssertionError, TypeError, ValueError):
        return  # the one was put in the other's way, or the text is no interpolation
    try:
        check(changed)
    except UserError as error:
        assert "\n" not in str(error) and str(error)
    else:
        OmegaConf.resolve(changed)
        _make_paths_absolute(changed)


def test_the_trackers_are_verls():
    path = Path(importlib.util.find_spec("verl").submodule_search_locations[0]) / "utils" / "tracking.py"
    tables = [
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "supported_backend"
    ]
    assert [sorted(table) for table in tables] == [sorted(TRACKERS)]


def test_a_setting_of_another_schedule_is_a_warning_where_it_was_typed(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("prefix_opd.checks.doctor.quick", lambda config: [])
    monkeypatch.setattr(launch, "run", lambda config, **_: None)
    folder = f"trainer.default_local_dir={tmp_path}"
    typed = ["prefix_opd.schedule.increment=3", "+prefix_opd.weighting={start:3}", "prefix_opd.schedule.maximum=99"]
    typed.append("distillation.distillation_loss.topk=4")
    assert launch.main(["experiment=tiny/full", folder, *typed]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "distillation.distillation_loss.topk: loss_mode=prefix_opd does not read it; leave it out, or choose an "
        "objective of the teacher's top tokens",
        "prefix_opd.schedule.increment: schedule.name=full does not read it; leave it out, or choose another",
        "prefix_opd.weighting.start: weighting.name=uniform does not read it; leave it out, or choose another",
    ]
    assert launch.main(["experiment=tiny/schedule", folder, typed[0]]) == 0
    assert not capsys.readouterr().out
    told = CliRunner().invoke(cli.app(), ["doctor", "experiment=tiny/full", typed[0], "--json"])
    last = json.loads(told.stdout)[-1]
    assert (last["status"], last["check"]) == ("warn", "prefix_opd.schedule.increment") and told.exit_code == 0
