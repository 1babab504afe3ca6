"""The time at which each step ended, for our trainer and verl's own: added to every line of verl's file logger.

verl's timer of a step stops before metrics, clearing of the queue and logging. TRL's runs are timed from the end of one
step to the end of the next, so all runs are. A run imports this module in its trainer's process
(`launch.run(trainer_module=...)`).
"""

from __future__ import annotations

import time
from typing import Any

from verl.utils import tracking

import prefix_opd.verl_plugin.trainer.trainer  # noqa: F401  registers the trainer, which is what verl asks of this import
from benchmarks.steps import CLOCK, WALL


class ClockedFileLogger(tracking.FileLogger):
    """verl's file logger, which writes at the end of a step, before the progress bar alone."""

    def log(self, data: dict[str, Any], step: int) -> None:
        super().log({**data, CLOCK: time.monotonic(), WALL: time.time()}, step)


tracking.FileLogger = ClockedFileLogger
