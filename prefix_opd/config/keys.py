"""Config keys that several rooms use."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.method.prompt import OF_THE_USER

STUDENT_KEY = "actor_rollout_ref.model.path"
TEACHER_KEY = "distillation.teacher_models.teacher_model.model_path"
TEMPLATE_KEY = OF_THE_USER
"""The user's chat template, which replaces the student's own. A forced ending is added to it."""
GRADER_KEY = "reward.custom_reward_function.path"
TRAIN_KEY = "data.train_files"
VAL_KEY = "data.val_files"
LOSS_MODE_KEY = "distillation.distillation_loss.loss_mode"
"""verl's name for the objective; ``prefix_opd.loss.name`` follows it."""
ATTENTION_KEY = "actor_rollout_ref.model.override_config.attn_implementation"
PACKED_ATTENTION = "torch_varlen"
"""A value of `ATTENTION_KEY`: attention over packed sequences by torch's own kernels. Only the trainer knows it."""
NUMPY_SEED = 2**32 - 1
"""The largest seed of ``numpy.random.seed``, which vLLM calls."""
LOOP_KEY = "actor_rollout_ref.rollout.agent.default_agent_loop"
ONE_TURN = "single_turn_agent"
"""verl's agent loop of one turn, the default of `LOOP_KEY`."""


def below(node: str, names: str) -> tuple[str, ...]:
    """Keys below a node, by their names separated by spaces."""
    return tuple(f"{node}.{name}" for name in names.split())


def positive(config: DictConfig, key: str) -> int:
    """The value of a key that must be a whole number of at least 1. Raises UserError if it is not."""
    value: Any = OmegaConf.select(config, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{key}={value}", "must be a whole number of at least 1")
    return value


def leaves(node: Any, prefix: str = "", resolve: bool = False) -> dict[str, Any]:
    """Dotted key -> value; an empty group is a leaf, and so is a list. ``resolve``: interpolations of a config."""
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, resolve=resolve)
    if not isinstance(node, dict) or (not node and prefix):
        return {prefix: node}
    found: dict[str, Any] = {}
    for name, value in node.items():
        found.update(leaves(value, f"{prefix}.{name}" if prefix else str(name)))
    return found
