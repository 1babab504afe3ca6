"""Run something to its end, away from this process, with its output in a file: a command, or work of our own in a fork.

What is forked starts with everything imported that this process has imported: see `warm_up`. So this process starts
no thread, computes nothing, and leaves what would to forks.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from benchmarks.machine import ROOT
from prefix_opd.base.loopback import stay_on_loopback_in_forks
from prefix_opd.cpu import warm_python
from prefix_opd.cpu.environment import set_environment
from prefix_opd.verl_plugin import our_run
from reproduction.isolation import output_in, run_isolated

LOG = "log.txt"

ALSO_IMPORTED = ("verl.trainer.main_ppo", "prefix_opd.launch", "benchmarks.clock")
"""By the process that runs of verl are forked from, beside what every CPU run imports."""

OF_EVERY_RUN = {"RAY_DEDUP_LOGS": "0", "HF_HUB_OFFLINE": "1"}

_CALLERS = dict(os.environ)
"""The environment as it was found. `warm_up` sets what a CPU run of verl wants, one thread a process among it, and a
command is not to inherit that: TRL takes all cores."""


class RunFailed(RuntimeError):
    """A run ended badly, or not in time."""


def run_process(
    command: Sequence[str],
    folder: Path,
    environment: dict[str, str],
    timeout: float,
    watch: Callable[[int], AbstractContextManager] = lambda pid: nullcontext(),
) -> None:
    """
    Args:
        folder: where the output goes, to `LOG`.
        environment: variables besides the caller's and `OF_EVERY_RUN`.
        timeout: seconds.
        watch: a context that is open as long as the process of this id runs.

    Raises:
        RunFailed: with the last line of the output.
    """
    log = folder / LOG
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**_CALLERS, **OF_EVERY_RUN, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with watch(process.pid):
                code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"it took more than {timeout:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    _check(code, log)


def run_forked(work: Callable[[], None], folder: Path, timeout: float) -> None:
    """Run ``work`` in a fork of this process. The caller has called `become_subreaper`.

    Args:
        work: ends normally or raises.
        folder: where the output goes, to `LOG`.
        timeout: seconds.

    Raises:
        RunFailed: with the last line of the output.
    """
    ends = time.monotonic() + timeout

    def look() -> None:
        if time.monotonic() > ends:
            raise RunFailed(f"it took more than {timeout:.0f} s")

    # `look` alone decides when a run is late
    _check(run_isolated(work, folder / LOG, look, stall=2 * timeout), folder / LOG)


@functools.cache
def warm_up(log: Path) -> None:
    """Import here what runs of verl import, once for all that are forked later; what it prints goes to ``log``."""
    os.environ.update(OF_EVERY_RUN)
    set_environment()
    stay_on_loopback_in_forks()
    our_run.begin(off=our_run.SWITCHES)  # each run adds its own
    with output_in(log):
        warm_python.load((*warm_python.PRELOAD, *ALSO_IMPORTED))


def _check(code: int, log: Path) -> None:
    if code:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        raise RunFailed(f"exit code {code}: {lines[-1].strip()[:300]}")
