"""How a run is asked to end: a file in its folder, which the trainer looks for after every step.

A signal reaches the launcher, the trainer lives in another process and perhaps on another node, and both see the
run's folder. ``touch outputs/my_run/stop`` asks as well as SIGTERM does.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

STOP_FILE = "stop"
EXIT_ASKED = 4
"""Exit code of a run that ended early as it was asked to, with a checkpoint. A killed one has 128 + the signal."""


def is_asked(run: Path) -> bool:
    """Whether the run shall end after the step at hand."""
    return (run / STOP_FILE).exists()


def forget(run: Path) -> None:
    """Begin or end a run: an old request is none."""
    (run / STOP_FILE).unlink(missing_ok=True)


def listen(run: Path) -> None:
    """SIGTERM and SIGINT ask the run to end after its step; a second one ends the process at once.

    Call it after ``ray.init``, which sets a handler of its own.
    """

    def asked(number: int, _frame) -> None:
        if is_asked(run):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)  # Ray's processes end with their driver
        (run / STOP_FILE).touch()
        print(
            f"{signal.Signals(number).name}: the run ends after this step, with a checkpoint; "
            "the same signal again ends it at once",
            file=sys.stderr,
            flush=True,
        )

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
