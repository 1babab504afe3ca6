"""A run's folder: what lies where, and whether it belongs to the run that is about to start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.errors import UserError
from prefix_opd.runlog import METRICS_FILE

CONFIG_FILE = "config.yaml"
LOG_FILE = "train.log"

SAME_RUN_KEYS = (
    "prefix_opd",
    "actor_rollout_ref.model.path",
    "actor_rollout_ref.actor.optim.lr",
    "actor_rollout_ref.actor.loss_agg_mode",
    "actor_rollout_ref.rollout.n",
    "data.train_files",
    "data.train_batch_size",
    "data.seed",
    "distillation.teacher_models.teacher_model.model_path",
    "distillation.distillation_loss.loss_mode",
)
"""What must be alike for a run to go on from another's checkpoint. The number of steps, for one, may grow."""

FREE_KEYS = ("prefix_opd.poll_seconds", "prefix_opd.position_bins")
"""Of those, what changes nothing that is learnt."""
GROWN_OVER_STEPS = ("cosine", "geometric")
"""Schedules whose L depends on the number of steps."""


def check_same_run(config: DictConfig) -> None:
    """A folder with a run in it is gone on with; a folder with *another* run in it is refused.

    Raises:
        UserError: names the first setting that differs.
    """
    folder = Path(config.trainer.default_local_dir)
    if not (folder / METRICS_FILE).exists() or not (folder / CONFIG_FILE).exists():
        return
    before = OmegaConf.load(folder / CONFIG_FILE)
    free = set(FREE_KEYS)
    if config.prefix_opd.schedule.name not in GROWN_OVER_STEPS:
        free.add("prefix_opd.schedule.over")
    for key in SAME_RUN_KEYS:
        old, new = (_flat(OmegaConf.select(node, key), key) for node in (before, config))
        for name in sorted((old.keys() | new.keys()) - free):
            if old.get(name) != new.get(name):
                raise UserError(
                    f"trainer.default_local_dir={folder}",
                    f"holds another run ({name}={old.get(name)} there, {new.get(name)} here)",
                    "add trainer.experiment_name=NAME for a folder of its own, or remove that one",
                )


def check_is_run(folder: Path) -> Path:
    """The folder itself, if it holds a run; raises UserError if not."""
    for name in (CONFIG_FILE, METRICS_FILE):
        if not (folder / name).is_file():
            raise UserError(str(folder), f"is no run's folder: it has no {name}", "name the folder that train printed")
    return folder


def checkpoints(folder: Path) -> dict[int, Path]:
    """Complete checkpoints by step: those up to the one that verl named last."""
    named = folder / "latest_checkpointed_iteration.txt"
    last = int(named.read_text()) if named.exists() else 0
    found = {int(match[1]): path for path in folder.glob("global_step_*") if (match := _STEP.search(path.name))}
    return {step: found[step] for step in sorted(found) if step <= last}


_STEP = re.compile(r"global_step_(\d+)$")


def _flat(node: Any, prefix: str) -> dict[str, Any]:
    if isinstance(node, DictConfig):
        return {name: value for key in node for name, value in _flat(node[key], f"{prefix}.{key}").items()}
    return {prefix: OmegaConf.to_container(node) if OmegaConf.is_config(node) else node}
