"""The console command ``prefix-opd``: verbs here, Hydra overrides wherever verl's users expect them."""

from __future__ import annotations

import importlib
import os
import sys

import typer

from prefix_opd.errors import EXIT_BAD_INPUT, UserError

VERBS = (
    "train",
    "doctor",
    "quickstart",
    "summary",
    "report",
    "analyze",
    "export",
    "evaluate",
    "prepare",
    "plan",
    "compare",
)

app = typer.Typer(
    name="prefix-opd",
    help="On-policy prefix distillation for verl (arXiv 2602.15260).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point. Bad input is one line on stderr and exit code 2, never a traceback."""
    for verb in VERBS:
        importlib.import_module(f"prefix_opd.commands.{verb}").register(app)
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os._exit(0)


if __name__ == "__main__":
    main()
