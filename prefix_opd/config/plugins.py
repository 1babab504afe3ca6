"""Modules of the user's: ``prefix_opd.plugins=[my_module]``.

A module registers schedules, weightings and objectives (`prefix_opd.method`) when it is imported. Every process of a
run that reads settings imports it: the launcher, the trainer, the agent-loop workers, the training workers.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError, one_line

KEY = "prefix_opd.plugins"


def look_here() -> str:
    """Let modules be imported from the working directory, and return it."""
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` has it, and a console script does not; last: it replaces nothing
        sys.path.append(here)
    return here


def import_plugins(names: Any) -> None:
    """Import modules from the working directory or from PYTHONPATH; twice changes nothing.

    Raises:
        UserError: no list of names, a module that cannot be imported, one that registers a name that is taken, or one
            that imports Ray: Ray reads the run's environment (which addresses to listen on) on import.
    """
    if not names:
        return
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{KEY}={names}", "must be a list of modules", f"write {KEY}=[my_module]")
    here, known = look_here(), "ray" in sys.modules
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # a script may leave when it is imported
            where = f"the module is looked for in {here} and on PYTHONPATH"
            raise UserError(f"{KEY}=[{name}]", f"cannot be imported ({one_line(error)})", where) from error
        if not known and "ray" in sys.modules:
            fix = "import ray and verl inside the functions that use them"
            raise UserError(f"{KEY}=[{name}]", "imports ray before the run has set the environment that it reads", fix)
