"""``prefix-opd summary``."""

from __future__ import annotations

from pathlib import Path

import typer

HELP = """Show what came out of a run: a table, and a picture of accuracy and L against FLOP in its folder.

\b
  prefix-opd summary outputs/tiny_schedule
"""


def register(app: typer.Typer) -> None:
    @app.command("summary", help=HELP)
    def summary(run: Path = typer.Argument(..., help="A run's folder.")) -> None:
        show(run)


def show(folder: Path, teacher: tuple[float, int] | None = None):
    """Print the table and draw the picture of one run; returns its `prefix_opd.report.summary.Summary`."""
    from rich.console import Console

    from prefix_opd.report.summary import PICTURE, draw, render, summarise

    found = summarise(folder)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=110)
    console.print(render(found, teacher))
    if found.evaluations and found.prefix_lengths:
        console.print(f"picture   {draw(found, folder / PICTURE)}", highlight=False, soft_wrap=True)
    console.print(f"all of it {folder}", highlight=False, soft_wrap=True)
    return found
