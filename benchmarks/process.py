"""Run a command to its end, in a group of its own, with its output in a file."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from benchmarks.machine import ROOT

LOG = "log.txt"


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
        environment: variables besides this process's own.
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
            env={**os.environ, **environment},
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
    if code:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        raise RunFailed(f"exit code {code}: {lines[-1].strip()[:300]}")
