"""Build verl's config classes before Ray starts, so that an invalid value gives one line."""

from __future__ import annotations

import copy

from omegaconf import DictConfig, OmegaConf
from verl.utils.config import omega_conf_to_dataclass

from prefix_opd.base.errors import UserError, one_line

NODES = (
    "actor_rollout_ref.actor",
    "actor_rollout_ref.rollout",
    "actor_rollout_ref.rollout.checkpoint_engine",
    "algorithm",
    "distillation",
)
"""Config nodes that a run builds (verl/trainer/ppo/v1/trainer_base.py, verl/workers/engine_workers.py). The model node
is left out, because its class loads the tokenizer; `prefix_opd.checks.preflight` has done that."""


def check_verl_config(config: DictConfig) -> None:
    """Reject a config that verl's classes reject.

    `prefix_opd.checks.keys` has its own rules for keys, which should be as strict. This second check costs nothing if
    verl is imported already.

    Raises:
        UserError: with the node and verl's reason.
    """
    resolved = copy.deepcopy(config)  # some classes modify their config
    OmegaConf.resolve(resolved)
    for key in NODES:
        try:
            omega_conf_to_dataclass(OmegaConf.select(resolved, key))
        except Exception as error:  # AssertionError, ValueError or OmegaConf's errors, wrapped by Hydra
            raise UserError(key, f"verl refuses it ({one_line(error.__cause__ or error)})") from None
