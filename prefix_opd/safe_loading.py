"""A checkpoint is loaded as tensors and plain values, never as code.

verl loads its own checkpoints with ``torch.load(..., weights_only=False)``
(verl/utils/checkpoint/fsdp_checkpoint_manager.py), which runs whatever the file says. torch can be told otherwise by
the environment; what verl's FSDP2 checkpoints hold beside tensors are the random states of NumPy.
"""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf, open_dict

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""torch/serialization.py: when set, ``weights_only=False`` counts for nothing."""
STRATEGY_KEY = "actor_rollout_ref.actor.strategy"


def require(config: DictConfig) -> None:
    """Set the variable for every process of a run. Other strategies than FSDP2 keep types that torch would refuse."""
    if OmegaConf.select(config, STRATEGY_KEY) == "fsdp2":
        with open_dict(config):
            OmegaConf.update(config, f"ray_kwargs.ray_init.runtime_env.env_vars.{FORCE}", "1", force_add=True)


def allow_random_states() -> None:
    """Let torch load NumPy's arrays of plain numbers. Called wherever verl is imported."""
    import numpy as np
    import torch
    from numpy._core.multiarray import _reconstruct

    torch.serialization.add_safe_globals([_reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))])
