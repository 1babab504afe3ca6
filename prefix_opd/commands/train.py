"""``prefix-opd train``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from prefix_opd.commands import Overrides

# Environment of the run's process; the user's variables take precedence.
QUIET = {"HYDRA_FULL_ERROR": "1", "PYTHONUNBUFFERED": "1", "RAY_DEDUP_LOGS": "0"}


def train(
    overrides: Overrides = None,
    check: bool = typer.Option(False, "--check", help="Check the configuration, start nothing."),
    verbose: bool = typer.Option(False, "--verbose", help="Show verl's output instead of the progress bar."),
) -> None:
    """Train by on-policy prefix distillation.

    \b
      prefix-opd train experiment=tiny/schedule
      prefix-opd train experiment=tiny/schedule prefix_opd.schedule.increment=8 trainer.total_training_steps=20
      prefix-opd train experiment=tiny/full trainer.experiment_name=my_full
      prefix-opd train --check experiment=qwen3_8b/prefix_256 layout=node_8x80gb

    Arguments are Hydra overrides: keys under prefix_opd. are settings of this package, all others are verl's. A stopped
    run continues from its last checkpoint when the same command is started again.
    """
    raise typer.Exit(run(overrides or [], check=check, verbose=verbose))


def run(overrides: Sequence[str], check: bool = False, verbose: bool = False, summarise: bool = True) -> int:
    """Check, train, and print the summary. Returns the exit code; raises UserError."""
    from rich.console import Console

    from prefix_opd.base import logs
    from prefix_opd.base.files import write_json
    from prefix_opd.base.processes import python_module, versions
    from prefix_opd.checks.cluster import check_machine
    from prefix_opd.launch import EXAMINED, examine, prepare

    logs.configure()
    config = prepare(overrides)
    if not check:
        check_machine(config)
    examine(config, overrides)
    folder = Path(config.trainer.default_local_dir)
    console = Console()
    if check:
        console.print(f"nothing wrong found; the run's folder will be {folder}", highlight=False, soft_wrap=True)
        return 0

    from prefix_opd.run import follow as watch
    from prefix_opd.run.folder import VERSIONS_FILE

    command = python_module("prefix_opd.launch", [EXAMINED, *overrides])
    environment = {**QUIET, **os.environ}
    write_json(folder / VERSIONS_FILE, versions())
    if verbose:
        code = watch.run_in_sight(command, folder, environment)
    else:
        console.print(f"run folder {folder} (metrics.jsonl, train.log, checkpoints)", highlight=False, soft_wrap=True)
        steps, tail_warning = int(config.trainer.total_training_steps), float(config.prefix_opd.probe.tail_warning)
        code = watch.run_and_watch(command, folder, steps, environment, tail_warning)
    if code == 0 and summarise:
        from prefix_opd.commands.report import try_to_write
        from prefix_opd.commands.summary import show

        show(folder)
        try_to_write(folder)
    return code
