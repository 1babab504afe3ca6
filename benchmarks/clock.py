"""The time at which each step ended, for our trainer and verl's own: added to every line of verl's file logger.

verl's timer of a step stops before metrics, clearing of the queue and logging. TRL's runs are timed from the end of one
step to the end of the next, so all runs are. A run imports this module in its trainer's process
(`launch.run(trainer_module=...)`). A run that is given a `GATE` starts up, then waits for that file before its first
step: runs that start side by side take their steps one after the other.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from verl.utils import tracking

import prefix_opd.verl_plugin.trainer.trainer  # noqa: F401  registers the trainer, which is what verl asks of this import
from benchmarks.steps import CLOCK, GATE, WALL


class ClockedFileLogger(tracking.FileLogger):
    """verl's file logger, which writes at the end of a step, before the progress bar alone."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        # verl makes its loggers when the run has started up
        gate = os.environ.get(GATE)
        while gate and not Path(gate).exists():
            time.sleep(0.1)

    def log(self, data: dict[str, Any], step: int) -> None:
        super().log({**data, CLOCK: time.monotonic(), WALL: time.time()}, step)


tracking.FileLogger = ClockedFileLogger
