"""The verbs of ``prefix-opd``, one module each, with a function of the same name. Its docstring is the verb's help."""

from typing import Annotated

import typer

Overrides = Annotated[list[str] | None, typer.Argument(help="Hydra overrides, e.g. experiment=tiny/schedule")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command whose overrides may begin with + and ~."""
