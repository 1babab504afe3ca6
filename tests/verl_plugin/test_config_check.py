"""verl's own config classes take every value that the table of keys allows, and what they refuse is one line."""

import copy

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from random_runs import DRAWN

from prefix_opd.base.errors import UserError
from prefix_opd.checks.surface import check_surface
from prefix_opd.config.compose import compose
from prefix_opd.verl_plugin.runner import check_verl_config


@pytest.fixture(scope="module")
def composed():
    return compose(["experiment=tiny/schedule"])


def values():
    for key, drawn in DRAWN.items():
        for value in drawn:
            parsed = OverridesParser.create().parse_override(f"{key}={value}")
            yield parsed.key_or_group, parsed.value()


def test_every_value_that_is_drawn_at_random_is_accepted_by_both(composed):
    seen = 0
    for key, value in values():
        if key == "data.max_response_length":  # goes with the engines' contexts, which preflight looks at
            continue
        changed = copy.deepcopy(composed)
        OmegaConf.update(changed, key, value, merge=False, force_add=True)
        check_surface(changed)
        check_verl_config(changed)
        seen += 1
    assert seen > 100


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("actor_rollout_ref.actor.loss_agg_mode", "mean", "actor_rollout_ref.actor: verl refuses it (ValueError: Inv"),
        ("actor_rollout_ref.rollout.mode", "sync", "actor_rollout_ref.rollout: verl refuses it (ValueError: Rollout m"),
        ("distillation.distillation_loss.loss_mode", "reverse_kl", "distillation: verl refuses it ("),
        ("distillation.teacher_models.teacher_model.inference.data_parallel_size", 2, "distillation: verl refuses it"),
    ],
)
def test_what_verl_refuses_is_one_line(composed, key, value, line):
    changed = copy.deepcopy(composed)
    OmegaConf.update(changed, key, value)
    with pytest.raises(UserError) as refused:
        check_verl_config(changed)
    assert str(refused.value).startswith(line) and "\n" not in str(refused.value)
