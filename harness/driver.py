"""Run the cases without a row, one after another. The same command continues after an interruption."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from harness.isolation import become_subreaper
from harness.store import Row, Store
from prefix_opd.base.errors import EXIT_BAD_INPUT, UserError

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """One run of one case."""

    title: str
    key: Hashable
    """The `Store.key` of this run's row."""
    run: Callable[[], Row]
    """Runs the case and returns its row; a failed run's row has an ``error``."""
    summary: Callable[[Row], str]
    """The result in a few words. Not called for a failed run."""


def run_missing(jobs: Sequence[Job], store: Store) -> list[Row]:
    """Run the jobs without a finished row in the store, and append their rows. Returns the rows of failed runs."""
    lead()
    failed = []
    for number, job in enumerate(jobs, start=1):
        title = f"[{number}/{len(jobs)}] {job.title}"
        if job.key in store.finished():
            say(f"{title}: there already")
            continue
        say(title)
        row = job.run()
        store.append(row)
        say(f"  failed: {row['error']}" if row.get("error") else f"  {job.summary(row)}")
        failed += [row] if row.get("error") else []
    return failed


def lead() -> None:
    """Prepare this process to fork runs: it adopts orphans and handles SIGTERM like Ctrl-C."""
    become_subreaper()
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_) -> NoReturn:
    raise KeyboardInterrupt


def exit_code(command: Callable[[], int]) -> int:
    """The exit code of ``command``: 2 for bad input, after one line on stderr, and 130 for an interruption."""
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("stopped; start the same command again to continue", file=sys.stderr)
        return EXIT_INTERRUPTED


class Parser(argparse.ArgumentParser):
    """Raises UserError for bad options."""

    def error(self, message: str) -> NoReturn:
        raise UserError(self.prog, message, "see --help")


def whole(name: str, value: str | None, least: int, most: int | None = None) -> int | None:
    """The integer value of an option; None if not given. Raises UserError."""
    if value is None:
        return None
    number = int(value) if value.isascii() and value.isdigit() else least - 1
    if number < least or (most is not None and number > most):
        upper = f" and at most {most}" if most is not None else ""
        raise UserError(f"{name} {value}", f"must be a whole number of at least {least}{upper}")
    return number


def names(option: str, given: Sequence[str], known: Sequence[str], kind: str) -> None:
    """Reject a name that is unknown or repeated. Raises UserError."""
    for name in given:
        if name not in known:
            raise UserError(f"{option} {name}", f"is no {kind}", f"known: {', '.join(known)}")
    once(option, given)


def once(option: str, given: Sequence) -> None:
    """Reject repeated values. Raises UserError."""
    if len(set(given)) < len(given):
        raise UserError(f"{option} {' '.join(map(str, given))}", "names one twice", "name each once")


def say(text: str) -> None:
    print(text, flush=True)
