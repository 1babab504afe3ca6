"""Run the cases that have no row yet, one after another; the same command continues after an interruption."""

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
    """As `Store.key` gives it for the row of this run."""
    run: Callable[[], Row]
    """A run that fails returns a row with an ``error``."""
    summary: Callable[[Row], str]
    """The result in a few words; not asked for a failed run."""


def run_missing(jobs: Sequence[Job], store: Store) -> list[Row]:
    """Run the jobs that have no finished row in the store, and append theirs; returns the rows of failed runs."""
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
    """Prepare this process to fork runs: it adopts orphans, and SIGTERM interrupts it as Ctrl-C does."""
    become_subreaper()
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_) -> NoReturn:
    raise KeyboardInterrupt


def exit_code(command: Callable[[], int]) -> int:
    """The exit code of ``command``; 2 for bad input, after one line on stderr, and 130 for an interruption."""
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("stopped; start the same command again to continue", file=sys.stderr)
        return EXIT_INTERRUPTED


class Parser(argparse.ArgumentParser):
    """Refuses bad options with a UserError."""

    def error(self, message: str) -> NoReturn:
        raise UserError(self.prog, message, "see --help")


def whole(name: str, value: str | None, least: int, most: int | None = None) -> int | None:
    """An option's whole number; none for none given. Raises UserError."""
    if value is None:
        return None
    number = int(value) if value.isascii() and value.isdigit() else least - 1
    if number < least or (most is not None and number > most):
        upper = f" and at most {most}" if most is not None else ""
        raise UserError(f"{name} {value}", f"must be a whole number of at least {least}{upper}")
    return number


def names(option: str, given: Sequence[str], known: Sequence[str], kind: str) -> None:
    """Refuse a name that is unknown or given twice. Raises UserError."""
    for name in given:
        if name not in known:
            raise UserError(f"{option} {name}", f"is no {kind}", f"known: {', '.join(known)}")
    once(option, given)


def once(option: str, given: Sequence) -> None:
    """Refuse a value that is given twice. Raises UserError."""
    if len(set(given)) < len(given):
        raise UserError(f"{option} {' '.join(map(str, given))}", "names one twice", "name each once")


def say(text: str) -> None:
    print(text, flush=True)
