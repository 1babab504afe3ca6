"""The exceptions that a user is meant to see."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 3
"""A run that stopped itself: see `RunStopped`."""


class UserError(ValueError):
    """Bad input, told in one line: the value, the rule that it breaks, and the fix.

    The command line prints ``str(error)`` without a traceback and exits with code 2. Raise it before any
    model, server or file is touched.

    Args:
        what: the offending value, named as the user typed it, e.g. ``prefix_opd.schedule.start=0``.
        rule: what must hold, e.g. ``must be a whole number of at least 1``.
        fix: what to type instead, e.g. ``use prefix_opd.schedule.start=1``.
    """

    def __init__(self, what: str, rule: str, fix: str = ""):
        self.what, self.rule, self.fix = what, rule, fix
        line = f"{what}: {rule}" + (f"; {fix}" if fix else "")
        super().__init__(" ".join(line.split()))


class RunStopped(RuntimeError):
    """A run that ends for a reason that it knows: one line that names the step, what is wrong and the way on."""


def one_line(error: BaseException) -> str:
    """An error's kind and its first line: Ray puts whole tracebacks into messages.

    What a worker raised comes as a RayTaskError, whose first line names the worker; the cause is what is wrong.
    """
    while isinstance(cause := getattr(error, "cause", None), BaseException) and cause is not error:
        error = cause
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def at_least(flag: str, value: int | None, least: int) -> None:
    """Raises UserError for a number below ``least``; none passes."""
    if value is not None and value < least:
        raise UserError(f"{flag}={value}", f"must be a whole number of at least {least}")
