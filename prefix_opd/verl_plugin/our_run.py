"""Marks the processes of a run, and installs patches in them.

The mark is the environment variable `RUN`. The patches of `prefix_opd.verl_plugin.patches` act only where the mark is
set. The launcher sets it with `begin`. Child processes inherit the mark; Ray workers on other machines get it from the
run's runtime environment (`prefix_opd.launch.run`). Its value is `ALL_PATCHES`, or the comma-separated names of the
active patches.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from omegaconf import DictConfig, OmegaConf

from prefix_opd import ALL_PATCHES, RUN, cpu
from prefix_opd.base import patching
from prefix_opd.base.errors import UserError
from prefix_opd.verl_plugin.patches import BY_NAME

SETTING = "prefix_opd.patches_off"
SWITCHES = tuple(name for name, patch in BY_NAME.items() if not patch.needed)
"""The patches that can be switched off."""


def switched_off(config: DictConfig) -> tuple[str, ...]:
    """The patches that a config switches off.

    Raises:
        UserError: a name is unknown, or a run needs the patch.
    """
    names = tuple(OmegaConf.select(config, SETTING) or ())  # configs of older versions lack the key
    for name in names:
        if name not in BY_NAME:
            from prefix_opd.config.overrides import nearest  # not in every process of a run

            raise UserError(f"{SETTING}=[{','.join(names)}]", f"{name} is not a patch", nearest(name, SWITCHES))
        if needed := BY_NAME[name].needed:
            raise UserError(
                f"{SETTING}=[{','.join(names)}]", f"{name} cannot be switched off: {needed}", "leave it out"
            )
    return names


def begin(off: Sequence[str] = ()) -> str:
    """Mark this process and its children, and install all patches except those in ``off``.

    A process that forks runs calls this with all of `SWITCHES` off. Each fork calls it again with its run's ``off``.

    Returns:
        The value of the mark.

    Raises:
        RuntimeError: a patch in ``off`` is already installed in this process.
    """
    replaced = {name for name in off for target in BY_NAME[name].targets if patching.is_replaced(target.where)}
    if replaced:
        raise RuntimeError(f"patches that are to be off act in this process: {', '.join(sorted(replaced))}")
    os.environ[RUN] = ",".join(name for name in BY_NAME if name not in off) if off else ALL_PATCHES
    join()
    return os.environ[RUN]


def join() -> None:
    """Install the patches that the mark names. A process without the mark installs none."""
    mark = os.environ.get(RUN, "")
    install(BY_NAME if mark == ALL_PATCHES else [name for name in mark.split(",") if name])


def install(names: Iterable[str]) -> None:
    """Install patches in this process only. Patches of the CPU platform are skipped on other platforms."""
    for name in names:
        patch = BY_NAME[name]
        if patch.cpu and not cpu.is_chosen():
            continue
        for target in patch.targets:
            if target.by:
                patching.replace(target.where, patch.by(target))
