"""Run work in a forked process, one run at a time. When it ends, all processes that it started are ended.

Linux gives a process whose parent has died to the nearest *subreaper*. The driver is a subreaper. So all processes
of a run, detached or not, stay descendants of the driver, which can find and end them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from prefix_opd.base.processes import run_and_leave

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
POLL_SECONDS = 0.2
STALL_SECONDS = 600.0
"""Seconds without new output in the log after which a run is ended and counts as failed."""
LEAVE_SECONDS, GRACE_SECONDS = 2.0, 5.0
"""Seconds before the remaining processes of a run get SIGTERM, and further seconds before they get SIGKILL."""
LATE = 124
"""Exit code of a run that took too long, as in timeout(1)."""


def become_subreaper(become: bool = True) -> None:
    """Start or stop adopting orphans. Raises OSError if the kernel has no subreapers."""
    _prctl(PR_SET_CHILD_SUBREAPER, int(become))


def run_isolated(
    work: Callable[[], None],
    log: Path,
    watch: Callable[[], None] = lambda: None,
    stall: float = STALL_SECONDS,
    timeout: float = float("inf"),
) -> int:
    """Run ``work`` in a forked child and wait until the child and all its descendants have ended.

    Call `become_subreaper` first. Start no thread in this process: a fork keeps only the forking thread.

    Args:
        work: returns or raises.
        log: receives the child's stdout and stderr, appended.
        watch: called a few times per second, to show progress.
        stall: seconds without a new line in the log after which the run is ended.
        timeout: seconds after which the run is ended.

    Returns:
        0, the child's exit code, minus the signal that ended it, or `LATE`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become_run(work, log)
    try:
        return _wait(pid, log, watch, stall, timeout)
    finally:
        end_descendants()


@contextlib.contextmanager
def output_in(log: Path) -> Iterator[None]:
    """Redirect the block's stdout and stderr, including that of libraries, to the end of ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    before = [os.dup(1), os.dup(2)]
    _point_output_at(log)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), before, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _point_output_at(log: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _wait(pid: int, log: Path, watch: Callable[[], None], stall: float, timeout: float) -> int:
    size, began = -1, time.monotonic()
    moved = began
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        watch()
        if ended:
            return os.waitstatus_to_exitcode(status)
        now, before, size = time.monotonic(), size, log.stat().st_size
        moved = moved if size == before else now
        if now - moved > stall or now - began > timeout:
            limit = f"took more than {timeout:g}" if now - began > timeout else f"wrote no line for {stall:g}"
            with log.open("a") as file:
                file.write(f"\nTimeoutError: it {limit} s\n")
            return LATE
        time.sleep(POLL_SECONDS)


def _become_run(work: Callable[[], None], log: Path) -> None:
    """Run ``work`` in the child. Never returns."""

    def run() -> None:
        os.setsid()  # only the driver handles Ctrl-C
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _point_output_at(log)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        work()

    run_and_leave(run, wait_for_threads=False)


def end_descendants() -> None:
    """Wait for all descendants, then send SIGTERM, then SIGKILL. Returns when all have ended."""
    began = time.monotonic()
    while left := _descendants():
        waited = time.monotonic() - began
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                if waited > LEAVE_SECONDS + GRACE_SECONDS:
                    process.kill()
                elif waited > LEAVE_SECONDS:
                    process.terminate()
        time.sleep(POLL_SECONDS)


def _descendants() -> list[psutil.Process]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    left = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
    return left


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
