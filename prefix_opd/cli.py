"""The console command ``prefix-opd``."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError

from prefix_opd.base.errors import EXIT_BAD_INPUT, UserError
from prefix_opd.commands import PASSED_ON

VERBS = (
    *("train", "doctor", "quickstart", "summary", "report", "analyze"),
    *("export", "evaluate", "prepare", "plan", "advise", "compare"),
)
WITH_OVERRIDES = {"train", "doctor", "quickstart", "plan", "advise"}


def app() -> typer.Typer:
    """The whole command line."""
    made = typer.Typer(
        name="prefix-opd",
        help="On-policy prefix distillation for verl (arXiv 2602.15260).",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for verb in VERBS:
        module = importlib.import_module(f"prefix_opd.commands.{verb}")
        if verb == "analyze":
            made.add_typer(module.app, name=verb)
        else:
            settings = PASSED_ON if verb in WITH_OVERRIDES else {}
            made.command(verb, context_settings=settings)(getattr(module, verb))
    return made


def main() -> None:
    """Entry point. Bad input is one line on stderr and exit code 2, never a traceback."""
    try:
        code = app()(standalone_mode=False, prog_name="prefix-opd")
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(EXIT_BAD_INPUT)
    except ClickException as error:
        _refuse(_usage_line(error))
    except UserError as error:
        _refuse(str(error))
    except BrokenPipeError:  # the reader of the pipe has closed it
        os._exit(0)
    sys.exit(code)


def _refuse(line: str) -> NoReturn:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def _usage_line(error: ClickException) -> str:
    """A usage error as one line; click would print the whole usage."""
    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split())
    if context is not None and not message.endswith("?"):  # click suggests a verb for a mistyped one
        message = f"{message.rstrip('.')}; see `{context.command_path} --help`"
    return message[0].lower() + message[1:]


if __name__ == "__main__":
    main()
