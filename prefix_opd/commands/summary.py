"""``prefix-opd summary``."""

from __future__ import annotations

from pathlib import Path

import typer


def summary(run: Path = typer.Argument(..., help="A run's folder.")) -> None:
    """Show the results of a run as a table, and draw accuracy and L against FLOP.

    \b
      prefix-opd summary outputs/tiny_schedule
    """
    show(run)


def show(folder: Path, teacher: tuple[float, int] | None = None):
    """Print the table and draw the picture of one run. Returns its `prefix_opd.report.summary.Summary`."""
    from prefix_opd.base.terminal import console
    from prefix_opd.report.summary import picture, render, summarise

    found, out = summarise(folder), console()
    out.print(render(found, teacher))
    if found.evaluations and found.prefix_lengths:
        out.print(f"picture   {picture(found)}", highlight=False, soft_wrap=True)
    out.print(f"folder    {folder}", highlight=False, soft_wrap=True)
    return found
