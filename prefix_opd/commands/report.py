"""``prefix-opd report``."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

HELP = """Write one HTML file that tells what came out of runs; it opens without a network.

\b
  prefix-opd report outputs/tiny_schedule
  prefix-opd report outputs/tiny_schedule outputs/tiny_full --reference tiny_full --out comparison.html

The claim in one line, results with intervals, plots (also as PNG beside the file), answers before and after with the
reverse KL of each token, settings and commands. Settings that are named like a secret are left out.
"""


def register(app: typer.Typer) -> None:
    @app.command("report", help=HELP)
    def report(
        runs: list[Path] = typer.Argument(..., help="Folders of finished runs."),
        out: Path = typer.Option(
            None, help="The HTML file; RUN/report.html by default, beside the folders of several."
        ),
        target: float = typer.Option(None, help="Accuracy whose cost is told; the highest that every run reached."),
        reference: str = typer.Option(None, help="The run that ratios refer to; by default the one of full OPD."),
    ) -> None:
        from prefix_opd.report.page import write_report
        from prefix_opd.run.folder import keep_command

        for path in write_report(runs, out, target, reference):
            print(path)
        keep_command(runs)


def try_to_write(folder: Path) -> None:
    """At the end of a run: a report that fails is a warning, for the run itself went well."""
    from prefix_opd.report.page import write_report

    try:
        print(f"report    {write_report([folder])[0]}")
    except Exception as error:  # whatever it is, hours of training are not lost over it
        print(f"warning: the report of {folder} was not written ({type(error).__name__}: {error})", file=sys.stderr)
