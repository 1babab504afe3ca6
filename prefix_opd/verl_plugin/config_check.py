"""Build verl's own config classes from a config, before Ray starts: what they refuse is one line."""

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
"""What the processes of a run build (verl/trainer/ppo/v1/trainer_base.py, verl/workers/engine_workers.py). The model's
class is left out: it loads the tokenizer, which `prefix_opd.checks.preflight` has done."""


def check_verl_config(config: DictConfig) -> None:
    """Refuse what a class of verl's refuses.

    The keys that may be set follow rules of their own (`prefix_opd.checks.keys`), which are meant to be as strict; this
    is the second look, and costs nothing where verl is imported already.

    Raises:
        UserError: names the node and verl's reason.
    """
    resolved = copy.deepcopy(config)  # some classes change what they are built from
    OmegaConf.resolve(resolved)
    for key in NODES:
        try:
            omega_conf_to_dataclass(OmegaConf.select(resolved, key))
        except Exception as error:  # assertions, ValueErrors and omegaconf's own, inside Hydra's
            raise UserError(key, f"verl refuses it ({one_line(error.__cause__ or error)})") from None
