"""Which processes belong to a run of ours, and which patches act in them.

`RUN` in the environment is the mark: the patches of `prefix_opd.verl_plugin.patches` act where it is set, and nowhere
else. Whatever starts a run sets it by `begin`; child processes inherit it, and Ray's workers on other machines get it
through the run's runtime environment (`prefix_opd.launch.run`). Its value is `ALL_PATCHES`, or the names of
the patches that act, with commas between them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence

from omegaconf import DictConfig, OmegaConf

from prefix_opd import ALL_PATCHES, RUN, cpu
from prefix_opd.base import patching
from prefix_opd.base.errors import UserError
from prefix_opd.verl_plugin.patches import BY_NAME

SETTING = "prefix_opd.patches_off"
SWITCHES = tuple(name for name, patch in BY_NAME.items() if not patch.needed)
"""The patches that a run can do without."""


def switched_off(config: DictConfig) -> tuple[str, ...]:
    """The patches that a config switches off.

    Raises:
        UserError: one of them is no patch, or one that a run needs.
    """
    names = tuple(OmegaConf.select(config, SETTING) or ())  # a config of an older version has no such key
    for name in names:
        if name not in BY_NAME:
            nearest = difflib.get_close_matches(name, SWITCHES, n=1)
            fix = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(SWITCHES)}"
            raise UserError(f"{SETTING}=[{','.join(names)}]", f"{name} is not a patch", fix)
        if needed := BY_NAME[name].needed:
            raise UserError(
                f"{SETTING}=[{','.join(names)}]", f"{name} cannot be switched off: {needed}", "leave it out"
            )
    return names


def begin(off: Sequence[str] = ()) -> str:
    """Mark this process and those that it starts, and install the patches but for those in ``off``.

    A process that runs are forked from begins with all of `SWITCHES` off, and each fork begins again with its own.

    Returns:
        The value of the mark.

    Raises:
        RuntimeError: a patch that is to be off has replaced something in this process.
    """
    replaced = {name for name in off for target in BY_NAME[name].targets if patching.is_replaced(target.where)}
    if replaced:
        raise RuntimeError(f"patches that are to be off act in this process: {', '.join(sorted(replaced))}")
    os.environ[RUN] = ",".join(name for name in BY_NAME if name not in off) if off else ALL_PATCHES
    join()
    return os.environ[RUN]


def join() -> None:
    """Install the patches that act in the run to which this process belongs; none if it belongs to none."""
    mark = os.environ.get(RUN, "")
    install(BY_NAME if mark == ALL_PATCHES else [name for name in mark.split(",") if name])


def install(names: Iterable[str]) -> None:
    """Install some patches here, in this process alone. Those of the CPU platform wait for it to be chosen."""
    for name in names:
        patch = BY_NAME[name]
        if patch.cpu and not cpu.is_chosen():
            continue
        for target in patch.targets:
            if target.by:
                patching.replace(target.where, target.by)
