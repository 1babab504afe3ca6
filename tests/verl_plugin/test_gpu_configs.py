"""verl itself accepts what the GPU experiments compose to: its dataclasses check far more than a YAML does."""

import pytest
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from prefix_opd.compose import compose, experiments

LAYOUTS = ["node_8x80gb", "two_gpus", "multi_node"]
PAPER = [name for name in experiments() if name.startswith("qwen3_")]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("experiment", PAPER)
def test_verl_accepts_it(experiment, layout):
    config = compose([f"experiment={experiment}", f"layout={layout}"])
    validate_config(config, need_reference_policy(config), need_critic(config))
    distillation = omega_conf_to_dataclass(config.distillation)
    omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    teachers = list(distillation.teacher_models.values())
    assert len(teachers) == 1 and teachers[0].num_replicas >= 1
    assert not need_critic(config) and not need_reference_policy(config)
    # the trainer's ranks must hold whole rollout replicas
    ranks = config.trainer.n_gpus_per_node * config.trainer.nnodes
    assert ranks % rollout.tensor_model_parallel_size == 0


def test_there_are_experiments_for_both_sizes():
    assert {name.split("/")[0] for name in PAPER} == {"qwen3_8b", "qwen3_1.7b"}
