"""Run verl's SFT trainer in this process, on one rank: SeqKD of the miniature.

    python -m reproduction.sft data.train_files=FILE.parquet trainer.total_training_steps=20

`scripts/run_seqkd.sh` does the same on GPUs with torchrun.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from prefix_opd.base.loopback import LOOPBACK, set_loopback
from prefix_opd.cpu.environment import set_environment
from prefix_opd.miniature.paths import register_resolver
from prefix_opd.verl_plugin import our_run

CONFIG_NAME = "seqkd_tiny"


def run(overrides: Sequence[str]) -> float:
    """Train to the end. The model is in ``global_step_N/huggingface`` of the run folder.

    Returns:
        Seconds of the updates, with the last checkpoint and without start-up.
    """
    set_environment()
    set_loopback()
    our_run.begin()
    register_resolver()
    _one_rank()
    from verl.trainer.sft_trainer import SFTTrainer
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

    GlobalHydra.instance().clear()
    with initialize_config_module("recipe.prefix_opd.config", version_base=None):
        config = compose(CONFIG_NAME, overrides=["hydra.searchpath=[pkg://verl.trainer.config]", *overrides])
    initialize_global_process_group()
    try:
        trainer = SFTTrainer(config=config)
        began = time.monotonic()
        trainer.fit()
        return time.monotonic() - began
    finally:
        destroy_global_process_group()


def _one_rank() -> None:
    """Set the variables that torchrun would set for its only process."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    told = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()} | {"MASTER_ADDR": LOOPBACK})


if __name__ == "__main__":
    print(f"{run(sys.argv[1:]):.1f} s")
