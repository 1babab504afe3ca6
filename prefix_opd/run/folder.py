"""A run's folder: its files, and whether it belongs to the run that is about to start."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from prefix_opd.base import files
from prefix_opd.base.errors import UserError
from prefix_opd.base.fields import Fields
from prefix_opd.base.redaction import command_without_secrets, redact
from prefix_opd.config.keys import LOOP_KEY, below, leaves
from prefix_opd.config.teachers import NODE, teachers
from prefix_opd.method.schedule import SCHEDULES, Schedule
from prefix_opd.method.weighting import WEIGHTINGS
from prefix_opd.run.log import METRICS_FILE

PRINTED = "name the folder that train printed"
CONFIG_FILE = "config.yaml"
LOG_FILE = "train.log"
COMMAND_FILE = "commands.txt"
VERSIONS_FILE = "versions.json"
LOCK_FILE = "run.lock"

SAME_RUN_KEYS = (
    "prefix_opd",
    *below(
        "actor_rollout_ref.model",
        "path custom_chat_template lora.merge lora_rank lora_alpha target_modules exclude_modules lora_adapter_path",
    ),
    *below("actor_rollout_ref.actor", "optim fsdp_config.model_dtype fsdp_config.mixed_precision.param_dtype"),
    *below("actor_rollout_ref.actor", "fsdp_config.mixed_precision.reduce_dtype loss_agg_mode loss_scale_factor"),
    *below("actor_rollout_ref.actor", "ppo_epochs ppo_mini_batch_size shuffle data_loader_seed"),
    LOOP_KEY,
    *below("actor_rollout_ref.rollout", "dtype ignore_eos n temperature top_k top_p val_kwargs"),
    *below("data", "apply_chat_template_kwargs filter_overlong_prompts max_prompt_length max_response_length"),
    *below("data", "prompt_key seed shuffle train_batch_size train_files train_max_samples val_files val_max_samples"),
    *below("distillation.teacher_models.teacher_model", "model_path inference.dtype"),
    *below("distillation.distillation_loss", "log_prob_min_clamp loss_max_clamp loss_mode topk"),
    "reward.custom_reward_function",
)
"""Keys and groups that must be equal for a run to resume in this folder: what is learnt, and how it is validated, as
the accuracies of one folder are compared. Other keys, e.g. the number of steps, may change."""

FREE_KEYS = (
    "actor_rollout_ref.actor.optim.total_training_steps",
    "prefix_opd.accelerator",
    "prefix_opd.flop_budget",
    "prefix_opd.loss.name",  # derived from loss_mode, which is compared
    "prefix_opd.patches_off",
    "prefix_opd.plugins",  # the names of what they register are compared
    "prefix_opd.poll_seconds",
    "prefix_opd.position_bins",
    "prefix_opd.probe.",
    "prefix_opd.watchers.",
    "prefix_opd.checkpoint.",
    "prefix_opd.rollout.timeout_seconds",
    "prefix_opd.start_up_seconds",
    "prefix_opd.teacher.",
    "prefix_opd.teacher_prompt.max_length",
    "prefix_opd.update.",
    "reward.custom_reward_function.reward_kwargs.memory_gib",
    "reward.custom_reward_function.reward_kwargs.prompt_ending",  # derived from the prompt, which is compared
    "reward.custom_reward_function.reward_kwargs.workers",
)
"""Prefixes of keys that may differ between runs, because they do not affect learning."""


_SHIPPED = re.compile(r"^.*/prefix_opd/(?:tiny|miniature)/weights/")


SINCE = {"prefix_opd.prompt.thinking": "forced"}
"""Key that earlier versions lack -> the value that they had."""


def check_same_run(config: DictConfig) -> None:
    """Refuse a folder that contains another run, by the first setting that differs. A folder with the same run is
    resumed. Raises UserError."""
    folder = Path(config.trainer.default_local_dir)
    if not (folder / METRICS_FILE).exists() or not (folder / CONFIG_FILE).exists():
        return
    before = OmegaConf.load(folder / CONFIG_FILE)
    schedule = SCHEDULES[str(config.prefix_opd.schedule.name)]
    free = (*FREE_KEYS, *_unread(config, "schedule", schedule))
    free += tuple(_unread(config, "weighting", WEIGHTINGS[str(config.prefix_opd.weighting.name)]))
    if schedule.observe is not Schedule.observe:  # these decide what it observes
        free = tuple(key for key in free if key not in ("prefix_opd.probe.", "prefix_opd.position_bins"))
    named = {one.name for node in (before, config) for one in teachers(node) if one.source}
    theirs = [f"{NODE}.{name}.{part}" for name in sorted(named) for part in ("key", "model_path", "inference.dtype")]
    for key in (*SAME_RUN_KEYS, *theirs):
        old, new = (leaves(OmegaConf.select(node, key), key, resolve=True) for node in (before, config))
        for name in sorted(old.keys() | new.keys()):
            empty = {} in (old.get(name), new.get(name))  # a group without keys
            if not (empty or name.startswith(free) or _same(old, new, name)):
                raise UserError(
                    f"trainer.default_local_dir={folder}",
                    f"holds another run ({name}={_shown(old.get(name))} there, {_shown(new.get(name))} here)",
                    "add trainer.experiment_name=NAME for a new folder, or remove this one",
                )


def _shown(value: Any) -> str:
    """A value, which may be a whole chat template."""
    return text if len(text := str(value)) <= 80 else f"{text[:38]} … {text[-38:]}"


def _unread(config: DictConfig, group: str, chosen: type[Fields]) -> list[str]:
    """The settings in a group that the chosen class does not read."""
    read = set(chosen.model_fields)
    if "top" in read and config.prefix_opd[group].top is None:  # nothing of a random L grows
        read.discard("over")
    keys = (str(key) for key in config.prefix_opd[group])
    return [f"prefix_opd.{group}.{key}" for key in keys if key != "name" and key not in read]


def _same(old: dict[str, Any], new: dict[str, Any], name: str) -> bool:
    """Whether a setting is what it was. A run of an earlier version lacks keys that are empty or `SINCE` by now, and
    knows the miniature's weights by another folder."""
    if name not in old:
        return not new[name] or new[name] == SINCE.get(name)
    return _settled(old[name]) == _settled(new.get(name))


def _settled(value: Any) -> Any:
    return _SHIPPED.sub("miniature:", value) if isinstance(value, str) else value


def read_config(folder: Path) -> DictConfig:
    """The config of a run's folder. The folder may come from elsewhere, so no interpolation is resolved.

    Raises:
        UserError: the file is not a YAML mapping, or contains ``${...}``; a run saves its config fully resolved.
    """
    path = folder / CONFIG_FILE
    try:
        config = OmegaConf.load(path)
        values = leaves(config)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(str(path), f"is not the config of a run ({type(error).__name__})", PRINTED) from None
    if not isinstance(config, DictConfig):
        raise UserError(str(path), "is not the config of a run", PRINTED)
    if unresolved := next((key for key, value in values.items() if "${" in str(value)), ""):
        raise UserError(str(path), f"contains ${{...}} in {unresolved}, which no run saves", PRINTED)
    return config


def check_is_run(folder: Path, needed: Sequence[str] = (CONFIG_FILE, METRICS_FILE)) -> Path:
    """The folder itself. Raises UserError if it lacks one of the files of a run."""
    for name in needed:
        if not (folder / name).is_file():
            raise UserError(str(folder), f"is not a run's folder: it has no {name}", PRINTED)
    return folder


def hold(folder: Path):
    """Lock the folder until the returned file is closed or the process ends. Raises UserError if it is locked."""
    return files.hold(folder / LOCK_FILE, _held(folder))


def is_being_written(folder: Path) -> bool:
    """Whether a live process has locked the folder (`hold`)."""
    return files.is_held(folder / LOCK_FILE)


def check_is_free(folder: Path) -> None:
    """Refuse a folder that a live run has locked. Raises UserError."""
    if is_being_written(folder):
        raise _held(folder)


def _held(folder: Path) -> UserError:
    return UserError(str(folder), "another run is writing to it", "wait for that run, or stop it")


def keep_command(folders: Iterable[Path], words: Sequence[str] | None = None) -> None:
    """Append a command, by default that of this process, to ``commands.txt`` in each run's folder, without secrets."""
    line = redact(shlex.join(command_without_secrets(["prefix-opd", *(sys.argv[1:] if words is None else words)])))
    for folder in dict.fromkeys(folders):
        # the command has succeeded: a missing or read-only folder is not a failure
        with contextlib.suppress(OSError), (folder / COMMAND_FILE).open("a") as commands:
            commands.write(line + "\n")
