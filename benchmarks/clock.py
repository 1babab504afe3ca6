"""When each step of verl ended, ours and native alike: a reading of the clock in every line of verl's file logger.

verl's own timer of a step stops before the metrics are computed, the queue is cleared and the step is logged, and TRL's
runs are clocked from the end of one step to the end of the next. A run imports this in its trainer's process, where it
would import the trainer's module alone (`launch.run(trainer_module=...)`).
"""

from __future__ import annotations

import time
from typing import Any

from verl.utils import tracking

import prefix_opd.verl_plugin.trainer.trainer  # noqa: F401  registers the trainer, which is what verl asks of this import
from benchmarks.steps import CLOCK


class ClockedFileLogger(tracking.FileLogger):
    """verl's file logger, the last thing of a step but for its progress bar."""

    def log(self, data: dict[str, Any], step: int) -> None:
        super().log({**data, CLOCK: time.monotonic()}, step)


tracking.FileLogger = ClockedFileLogger
