"""Stop requests: a file in the run's folder, which the trainer looks for after every step.

A signal reaches the launcher. The trainer runs in another process, perhaps on another node. Both see the run's folder.
``touch outputs/my_run/stop`` has the same effect as SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

STOP_FILE = "stop"
EXIT_ASKED = 4
"""Exit code of a run that stopped on request, with a checkpoint. A killed run has 128 + the signal's number."""


def is_asked(run: Path) -> bool:
    return (run / STOP_FILE).exists()


def forget(run: Path) -> None:
    """Discard a stop request left over from an earlier run."""
    (run / STOP_FILE).unlink(missing_ok=True)


def listen(run: Path) -> None:
    """Make SIGTERM and SIGINT request a stop after the current step; a second signal ends the process at once.

    Call it after ``ray.init``, which installs its own handler.
    """

    def asked(number: int, _frame) -> None:
        if is_asked(run):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)  # Ray's processes end with their driver
        (run / STOP_FILE).touch()
        print(
            f"{signal.Signals(number).name}: the run stops after this step, with a checkpoint; "
            "the same signal again stops it at once",
            file=sys.stderr,
            flush=True,
        )

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
