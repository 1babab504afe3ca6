"""Phases that take turns on shared GPUs (``prefix_opd.teacher.phases=turns``).

| phase  | student's engine | teacher's engine |
|--------|------------------|------------------|
| sample | awake            | asleep           |
| score  | asleep           | awake            |
| update | asleep           | asleep           |

verl wakes the student's engine with the weight sync and would put it to sleep after the scores. Here it sleeps once all
rollouts of the step are sampled. Validation needs no teacher. An engine with ``free_cache_engine=false`` never sleeps;
the order of the phases is the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import ray
from verl.utils.ray_utils import auto_await

from prefix_opd.base.errors import RunStopped, one_line
from prefix_opd.verl_plugin.trainer.engine_watch import while_alive


class Turns:
    """The turns of `PrefixOPDTrainer`. Does nothing if the phases overlap."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.taken = trainer.settings.teacher.takes_turns and trainer.use_teacher_policy
        self.scoring = False
        """True during the teacher's turn."""
        self.seconds = 0.0
        """Seconds since `take_seconds` in which engines fell asleep and woke up."""

    def begin_scoring(self) -> None:
        """Wait until every rollout that was handed out is sampled or has failed. Then let the teacher score them.

        Raises:
            RunStopped: an engine has died.
        """
        if not self.taken:
            return
        workers = self.trainer.agent_loop_manager.agent_loop_workers
        ray.get([worker.sampled.remote() for worker in workers])
        engines = self.trainer.checkpoint_manager
        self._switch(engines.sleep_replicas, engines.replicas, "putting the student to sleep")
        self.scoring = True
        self._teachers("wake_up", "waking the teacher")
        ray.get([worker.score.remote() for worker in workers])

    def end_scoring(self) -> None:
        """Put the teacher to sleep if it is its turn. The student's engine stays asleep until the weight sync."""
        if self.scoring:
            self.scoring = False
            self._teachers("sleep", "putting the teacher to sleep")

    def sample_again(self) -> None:
        """Give the turn back to the student, with the weights of the last update."""
        self.end_scoring()
        self.trainer.checkpoint_manager.update_weights(self.trainer.global_steps - 1)

    def take_seconds(self) -> float:
        """Return `seconds` and set them to 0."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def _teachers(self, method: str, what: str) -> None:
        """Call a method of all replicas of the teacher that can sleep."""
        found = replicas(self.trainer.teacher_model_manager)
        self._switch(lambda: call(found, method), found, what)

    def _switch(self, action: Callable[[], Any], found: list[Any], what: str) -> None:
        began = time.monotonic()
        try:
            while_alive(action, found, what, float(self.trainer.settings.rollout.timeout_seconds))
        except (RunStopped, ray.exceptions.RayActorError):
            raise
        except Exception as error:
            raise RunStopped(f"step {self.trainer.global_steps}: {what} failed ({one_line(error)})") from error
        self.seconds += time.monotonic() - began


class TakesTurns:
    """verl's hooks around sampling, for a trainer with `turns`."""

    def on_sample_begin(self):
        super().on_sample_begin()
        self.turns.begin_scoring()

    def on_sample_end(self):
        if self.turns.taken:  # the student's engine sleeps already
            self.turns.end_scoring()
        else:
            super().on_sample_end()


def replicas(manager: Any) -> list[Any]:
    """The engines of all teachers of verl's manager."""
    return [one for teacher in manager.teacher_model_managers.values() for one in teacher.rollout_replicas]


@auto_await
async def call(found: list[Any], method: str) -> None:
    """``sleep`` or ``wake_up`` of all engines that can sleep, at once."""
    await asyncio.gather(*(getattr(one, method)() for one in found if one.config.free_cache_engine))
