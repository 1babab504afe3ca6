"""The part of a config that says what a run asks of Ray."""

import pytest
from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError

TEACHER = "distillation.teacher_models.teacher_model.inference"


def config(**changed):
    made = OmegaConf.create(
        {
            "platform": "gpu",
            "trainer": {"n_gpus_per_node": 4, "nnodes": 1, "logger": ["console"]},
            "distillation": {
                "enabled": True,
                "n_gpus_per_node": 2,
                "nnodes": 2,
                "teacher_models": {"teacher_model": {"inference": {"tensor_model_parallel_size": 1}}},
            },
            "actor_rollout_ref": {"rollout": {"tensor_model_parallel_size": 2}},
            "transfer_queue": {"backend": {"SimpleStorage": {"num_data_storage_units": 8}}},
            "ray_kwargs": {"ray_init": {"num_cpus": None, "address": None}},
            "reward": {"custom_reward_function": {"path": "pkg://prefix_opd.grading.reward", "name": "compute_score"}},
        }
    )
    for key, value in changed.items():
        OmegaConf.update(made, key.replace("__", "."), value, force_add=True)
    return made


def refused(check, *arguments):
    with pytest.raises(UserError) as told:
        check(*arguments)
    assert "\n" not in str(told.value)
    return str(told.value)
