"""``prefix-opd compare``."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from prefix_opd.commands import AsJson


def compare(
    runs: list[Path] = typer.Argument(None, help="Run folders, or JSON files that `evaluate` wrote."),
    size: str = typer.Option(None, help="Student size, 1.7b or 8b, if the run does not name it."),
    step: int = typer.Option(None, help="Step of the validation to show."),
    as_json: AsJson = False,
) -> None:
    """Show runs beside the rows of the paper's tables: accuracy, FLOP, hours.

    \b
      prefix-opd compare outputs/qwen3_8b_prefix_256
      prefix-opd compare outputs/qwen3_8b_* --step 60
      prefix-opd compare evaluations/prefix_256.json outputs/qwen3_8b_full --size 8b
      prefix-opd compare --json

    A run folder gives its own validation, at the step with the best AIME-24 accuracy (as in the paper) or at --step. A
    JSON file is one that `evaluate` wrote. Without arguments, only the paper's rows are shown.
    """
    from prefix_opd.analysis.compare import compare, read, render

    tables = compare([read(run, step) for run in runs or []], size)
    if as_json:
        print(json.dumps([table.as_dict() for table in tables], indent=2))
        return
    from prefix_opd.base.terminal import console

    for table in tables:
        console().print(render(table), highlight=False)
