"""Exceptions whose message is shown to the user."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 3
"""Exit code of `RunStopped`."""


class UserError(ValueError):
    """Bad input, described in one line: the value, the rule it breaks, and the fix.

    The command line prints ``str(error)`` without a traceback and exits with code 2. Raise it before any model, server
    or file is touched.

    Args:
        what: the value as the user typed it, e.g. ``prefix_opd.schedule.start=0``.
        rule: e.g. ``must be a whole number of at least 1``.
        fix: what to type instead, e.g. ``use prefix_opd.schedule.start=1``.
    """

    def __init__(self, what: str, rule: str, fix: str = ""):
        self.what, self.rule, self.fix = what, rule, fix
        line = f"{what}: {rule}" + (f"; {fix}" if fix else "")
        super().__init__(" ".join(line.split()))


class RunStopped(RuntimeError):
    """The run stops itself. The message is one line: the step, what is wrong, and what to do."""


def one_line(error: BaseException) -> str:
    """The type of an error and the first line of its message, which may continue with Ray's traceback.

    A worker's error arrives as a RayTaskError. Its ``cause`` is the original error.
    """
    while isinstance(cause := getattr(error, "cause", None), BaseException) and cause is not error:
        error = cause
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"


def at_least(flag: str, value: int | None, least: int, most: int | None = None) -> None:
    """Raises UserError for a number below ``least`` or above ``most``; None is accepted."""
    if value is not None and (value < least or (most is not None and value > most)):
        told = f"must be a whole number of at least {least}" + ("" if most is None else f" and at most {most}")
        raise UserError(f"{flag}={value}", told)
