"""``prefix-opd report``."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


def report(
    runs: list[Path] = typer.Argument(..., help="Run folders of finished runs."),
    out: Path = typer.Option(
        None, help="HTML file; RUN/report.html by default, or beside the folders of several runs."
    ),
    target: float = typer.Option(
        None, help="Accuracy whose cost is shown; the highest that every run reached by default."
    ),
    reference: str = typer.Option(None, help="Run that ratios refer to; full OPD by default."),
) -> None:
    """Write one HTML page about one or more runs. It opens offline.

    \b
      prefix-opd report outputs/tiny_schedule
      prefix-opd report outputs/tiny_schedule outputs/tiny_full --reference tiny_full --out comparison.html

    The page has the main result in one line, results with intervals, plots (also as PNG files), answers before and
    after training with the reverse KL of each token, settings and commands. Settings named like a secret are left out.
    """
    from prefix_opd.report.page import write_report
    from prefix_opd.run.folder import keep_command

    for path in write_report(runs, out, target, reference):
        print(path)
    keep_command(runs)


def try_to_write(folder: Path) -> None:
    """Write the report at the end of a run. A failure only warns, because the run itself succeeded."""
    from prefix_opd.report.page import write_report

    try:
        print(f"report    {write_report([folder])[0]}")
    except Exception as error:  # any failure of the report must not fail the run
        print(f"warning: the report of {folder} was not written ({type(error).__name__}: {error})", file=sys.stderr)
