"""Run a command, or a function in a fork, to its end, with its output in a log.

A fork starts with every module that this process has imported (`warm_up`). A fork keeps only the forking thread, so
this process starts no threads and leaves all computing to forks.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from harness.isolation import STALL_SECONDS, output_in, run_isolated
from harness.machine import ROOT
from prefix_opd.base.loopback import set_loopback
from prefix_opd.cpu import warm_python
from prefix_opd.cpu.environment import set_environment
from prefix_opd.verl_plugin import our_run

LOG = "log.txt"
IMPORTED = ("verl.trainer.main_ppo", "prefix_opd.launch")
"""What every run of verl imports, besides `warm_python.PRELOAD`."""
OF_EVERY_RUN = {"RAY_DEDUP_LOGS": "0", "HF_HUB_OFFLINE": "1"}
_CALLERS = dict(os.environ)
"""The environment before `warm_up` changes it, for commands: `warm_up` sets one thread per process, but TRL uses all
cores."""


class RunFailed(RuntimeError):
    """A run ended with an error or took too long."""


def run_command(
    command: Sequence[str],
    log: Path,
    environment: dict[str, str],
    timeout: float,
    watch: Callable[[int], AbstractContextManager] = lambda pid: nullcontext(),
) -> None:
    """
    Args:
        log: overwritten with the command's output.
        environment: variables besides the caller's and `OF_EVERY_RUN`.
        timeout: seconds.
        watch: entered with the process id, left when the process ends.

    Raises:
        RunFailed: with the last line of the output.
    """
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
            raise RunFailed(f"it took more than {timeout:g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    _check(code, log)


def run_forked(
    work: Callable[[], None],
    log: Path,
    timeout: float = float("inf"),
    watch: Callable[[], None] = lambda: None,
    stall: float = STALL_SECONDS,
) -> None:
    """Run ``work`` in a fork of this process: arguments as in `isolation.run_isolated`.

    Raises:
        RunFailed: with the last line of the output.
    """
    _check(run_isolated(work, log, watch, stall, timeout), log)


@functools.cache
def warm_up(*modules: str, log: Path | None = None, platform: str = "cpu") -> None:
    """Import `IMPORTED` and ``modules`` once for all later forks.

    Args:
        platform: of the runs: cpu or gpu.
        log: receives the output of the imports; None leaves it on stdout and stderr.
    """
    os.environ.update(OF_EVERY_RUN)
    if platform == "cpu":
        set_environment()
    if not os.environ.get("RAY_ADDRESS"):
        set_loopback()  # before Ray is imported, which reads these variables
    our_run.begin(off=our_run.SWITCHES)  # each run installs its own patches
    with output_in(log) if log else nullcontext():
        warm_python.load((*warm_python.PRELOAD[platform], *IMPORTED, *modules))


def _check(code: int, log: Path) -> None:
    if code:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        raise RunFailed(f"exit code {code}: {lines[-1].strip()[:300]}")
