"""``prefix-opd compare``."""

from __future__ import annotations

import json
from pathlib import Path

import typer

HELP = """Set runs beside the rows of the paper's tables (accuracy, FLOP, hours).

\b
  prefix-opd compare outputs/qwen3_8b_prefix_256
  prefix-opd compare outputs/qwen3_8b_* --step 60
  prefix-opd compare evaluations/prefix_256.json outputs/qwen3_8b_full --size 8b
  prefix-opd compare --json

A run's folder stands for its own validations, at the step with the best AIME-24 unless --step says another, as the
paper chose its checkpoints. A JSON file is what `evaluate` wrote. Without arguments: the paper's rows alone.
"""


def register(app: typer.Typer) -> None:
    @app.command("compare", help=HELP)
    def compare_command(
        runs: list[Path] = typer.Argument(None, help="Folders of runs, or JSON files of evaluations."),
        size: str = typer.Option(None, help="The student's size, 1.7b or 8b, where the run does not say it."),
        step: int = typer.Option(None, help="Which validation of a run's folder."),
        as_json: bool = typer.Option(False, "--json", help="JSON in place of tables."),
    ) -> None:
        from prefix_opd.analysis.compare import compare, read, render

        tables = compare([read(run, step) for run in runs or []], size)
        if as_json:
            print(json.dumps([table.as_dict() for table in tables], indent=2))
            return
        from rich.console import Console

        for table in tables:
            Console().print(render(table), highlight=False)
