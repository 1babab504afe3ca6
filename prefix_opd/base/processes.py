"""Child processes, and the versions that they run."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from prefix_opd import VERL_VERSION, __version__

_HANDED_ON = (signal.SIGTERM, signal.SIGINT)
_BY_SIGNAL = 128


def run_and_leave(work: Callable[[], None], wait_for_threads: bool = True) -> NoReturn:
    """In a fork: run ``work``, then exit as the interpreter would, with the exit code of ``work``.

    ``wait_for_threads``: as a program does.
    """
    code = 1
    try:
        work()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        if wait_for_threads:
            with suppress(Exception):
                threading._shutdown()  # type: ignore[attr-defined]
        with suppress(Exception):
            atexit._run_exitfuncs()
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def python_module(module: str, arguments: Sequence[str]) -> list[str]:
    """A command line for a module of this environment."""
    return [sys.executable, "-m", module, *arguments]


def start(command: Sequence[str], environment: Mapping[str, str] | None = None, **pipes: Any) -> subprocess.Popen:
    """Start a command in its own session. It receives SIGTERM if this process dies.

    The terminal sends no signals to that session, and `run` can end all processes in it.

    Args:
        environment: all variables; by default those of this process.
        pipes: of `subprocess.Popen`.
    """
    return subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_end_with_parent, **pipes)


def run(
    command: Sequence[str], seconds: float | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command and capture its output. On a timeout or an interruption, all processes of its session are killed.

    Raises:
        subprocess.TimeoutExpired: it took more than ``seconds``.
        OSError: there is no such command.
    """
    with start(command, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class Child:
    """A process that receives this process's signals. Made by `standing_beside`."""

    def __init__(self, process: subprocess.Popen):
        self.process = process
        self._asked: set[int] = set()
        self._received: list[int] = []

    def hand_on(self, number: int, _frame: Any) -> None:
        """The handler of a signal: forward it; kill the process at the second signal of a kind."""
        # the run looks for signals once a second, so it cannot tell two signals of a kind from one
        self.process.send_signal(signal.SIGKILL if number in self._asked else number)  # no effect once it has ended
        self._asked.add(number)
        self._received.append(number)  # printed later: this handler may have interrupted a print

    def take_signals(self) -> list[str]:
        """Names of the signals that were forwarded since the last call."""
        names = []
        while self._received:
            names.append(signal.Signals(self._received.pop(0)).name)
        return names

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> int:
        """The exit code; 128 + N if signal N killed the process, as in shells."""
        code = self.process.wait()
        return code if code >= 0 else _BY_SIGNAL - code


def how_it_ended(code: int) -> str:
    """An exit code in words.

    >>> how_it_ended(3), how_it_ended(137)
    ('with exit code 3', 'killed by SIGKILL')
    """
    with suppress(ValueError):
        return f"killed by {signal.Signals(code - _BY_SIGNAL).name}"
    return f"with exit code {code}"


@contextmanager
def standing_beside(command: Sequence[str], environment: Mapping[str, str], **pipes: Any) -> Iterator[Child]:
    """Start a command. From then on, while the block runs, forward SIGTERM and SIGINT (Ctrl-C) to it."""
    early: list[int] = []  # received while it starts
    handlers = {number: signal.signal(number, lambda number, _: early.append(number)) for number in _HANDED_ON}
    try:
        child = Child(start(command, environment, **pipes))
        for number in _HANDED_ON:
            signal.signal(number, child.hand_on)
        for received in early:
            child.hand_on(received, None)
        yield child
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def versions() -> dict[str, str | None]:
    """The versions that determine what a command does."""
    return {"prefix_opd": __version__, "verl": VERL_VERSION, "git_commit": git_commit()}


def git_commit() -> str | None:
    """The commit of this package's checkout, with "-dirty" for changes; None outside a checkout."""
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str | None:
        try:
            answer = run(["git", "-C", str(folder), *arguments], seconds=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    # installed into a folder below another repository, the commit would be that one's
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and git("status", "--porcelain", "--untracked-files=no", ".") else commit


def _end_with_parent() -> None:
    """In the child: let Linux send it SIGTERM when the parent dies."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
