"""A run's folder: what lies where, and whether it belongs to the run that is about to start."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from prefix_opd.base import files
from prefix_opd.base.errors import UserError
from prefix_opd.base.redaction import command_without_secrets, redact
from prefix_opd.method.schedule import SCHEDULES
from prefix_opd.run.log import METRICS_FILE

CONFIG_FILE = "config.yaml"
LOG_FILE = "train.log"
COMMAND_FILE = "commands.txt"
VERSIONS_FILE = "versions.json"
LOCK_FILE = "run.lock"

SAME_RUN_KEYS = (
    "prefix_opd",
    "actor_rollout_ref.model.path",
    "actor_rollout_ref.actor.optim",
    "actor_rollout_ref.actor.loss_agg_mode",
    "actor_rollout_ref.actor.ppo_epochs",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.rollout.top_k",
    "actor_rollout_ref.rollout.top_p",
    "data.filter_overlong_prompts",
    "data.max_prompt_length",
    "data.max_response_length",
    "data.seed",
    "data.shuffle",
    "data.train_batch_size",
    "data.train_files",
    "distillation.teacher_models.teacher_model.model_path",
    "distillation.distillation_loss.loss_mode",
)
"""What must be alike for a run to go on from another's checkpoint, groups with all that is in them. The number of
steps, for one, may grow."""

FREE_KEYS = (
    "actor_rollout_ref.actor.optim.total_training_steps",
    "prefix_opd.loss.name",  # follows loss_mode, which is compared
    "prefix_opd.patches_off",
    "prefix_opd.plugins",  # what they register is chosen by name, and the names are compared
    "prefix_opd.poll_seconds",
    "prefix_opd.position_bins",
    "prefix_opd.probe.",
    "prefix_opd.watchers.",
    "prefix_opd.checkpoint.",
    "prefix_opd.rollout.timeout_seconds",
    "prefix_opd.update.",
)
"""Prefixes of keys that may differ between runs, because they do not affect learning."""


_SHIPPED = re.compile(r"^.*/prefix_opd/(?:tiny|miniature)/weights/")


def check_same_run(config: DictConfig) -> None:
    """A folder with a run in it is gone on with; a folder with *another* run in it is refused.

    Raises:
        UserError: names the first setting that differs.
    """
    folder = Path(config.trainer.default_local_dir)
    if not (folder / METRICS_FILE).exists() or not (folder / CONFIG_FILE).exists():
        return
    before = OmegaConf.load(folder / CONFIG_FILE)
    free = FREE_KEYS
    if "over" not in SCHEDULES[str(config.prefix_opd.schedule.name)].model_fields:  # it follows the number of steps
        free += ("prefix_opd.schedule.over",)
    for key in SAME_RUN_KEYS:
        old, new = (_flat(OmegaConf.select(node, key), key) for node in (before, config))
        for name in sorted(old.keys() | new.keys()):
            if not name.startswith(free) and not _same(old, new, name):
                raise UserError(
                    f"trainer.default_local_dir={folder}",
                    f"holds another run ({name}={old.get(name)} there, {new.get(name)} here)",
                    "add trainer.experiment_name=NAME for a folder of its own, or remove that one",
                )


def _same(old: dict[str, Any], new: dict[str, Any], name: str) -> bool:
    """Whether a setting is what it was. A run of an earlier version lacks keys that are empty by default since, and
    knows the miniature's weights by another folder."""
    if name not in old:
        return not new[name]
    return _settled(old[name]) == _settled(new.get(name))


def _settled(value: Any) -> Any:
    return _SHIPPED.sub("miniature:", value) if isinstance(value, str) else value


def read_config(folder: Path) -> DictConfig:
    """The config of a run's folder, which may be from elsewhere: data, so that nothing in it is looked up here.

    Raises:
        UserError: it is no YAML, or holds ``${...}``; a run saves its config with all of them resolved.
    """
    path = folder / CONFIG_FILE
    try:
        config = OmegaConf.load(path)
        held = next((key for key, value in _raw(OmegaConf.to_container(config), "") if "${" in str(value)), None)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(str(path), f"is no config of a run ({type(error).__name__})") from None
    if not isinstance(config, DictConfig):
        raise UserError(str(path), "is no config of a run")
    if held is not None:
        raise UserError(
            str(path), f"holds ${{...}} in {held}, which no run saves", "name the folder that train printed"
        )
    return config


def _raw(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _raw(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list):
        for value in node:
            yield from _raw(value, prefix)
    else:
        yield prefix, node


LORA_KEYS = ("actor_rollout_ref.model.lora_rank", "actor_rollout_ref.model.lora.rank")


def check_full_weights(folder: Path, config: DictConfig) -> None:
    """Refuse a run that trained an adapter: its checkpoints would be read as the base model. Raises UserError."""
    adapter = OmegaConf.select(config, "actor_rollout_ref.model.lora_adapter_path")
    if adapter or any(OmegaConf.select(config, key, default=0) for key in LORA_KEYS):
        raise UserError(
            str(folder),
            "trained a LoRA adapter, which is not supported: its weights would be those of the base model",
            "merge its checkpoint with verl.model_merger",
        )


def check_is_run(folder: Path) -> Path:
    """The folder itself, if it holds a run; raises UserError if not."""
    for name in (CONFIG_FILE, METRICS_FILE):
        if not (folder / name).is_file():
            raise UserError(str(folder), f"is no run's folder: it has no {name}", "name the folder that train printed")
    return folder


def hold(folder: Path):
    """An open file that marks the folder as being written to, until it is closed or the process ends.

    Raises:
        UserError: another process holds it.
    """
    return files.hold(folder / LOCK_FILE, _held(folder))


def is_being_written(folder: Path) -> bool:
    """Whether a live process holds the folder (`hold`)."""
    return files.is_held(folder / LOCK_FILE)


def check_is_free(folder: Path) -> None:
    """Refuse a folder that a live run holds, before a byte is written to it. Raises UserError."""
    if is_being_written(folder):
        raise _held(folder)


def _held(folder: Path) -> UserError:
    return UserError(str(folder), "another run is writing to it", "wait for its end, or stop it")


def keep_command(folders: Iterable[Path]) -> None:
    """Note the command line of this process, secrets left out, in the runs' folders that it read."""
    line = redact(shlex.join(command_without_secrets(["prefix-opd", *sys.argv[1:]])))
    for folder in dict.fromkeys(folders):
        # what was asked for is done: a folder that cannot be written to, or is not there, is no reason to fail
        with contextlib.suppress(OSError), (folder / COMMAND_FILE).open("a") as commands:
            commands.write(line + "\n")


def _flat(node: Any, prefix: str) -> dict[str, Any]:
    if isinstance(node, DictConfig):
        return {name: value for key in node for name, value in _flat(node[key], f"{prefix}.{key}").items()}
    return {prefix: OmegaConf.to_container(node) if OmegaConf.is_config(node) else node}
