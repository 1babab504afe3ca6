"""Bring student and teacher up side by side.

verl 0.9.1 starts the teacher's servers after the student's trainer and before the student's server
(verl/trainer/ppo/v1/trainer_base.py:_setup, steps 6, 8, 9), each waiting for the one before. None needs another, so
the teacher is started in a thread as soon as there are resource pools, and joined where verl would have made it.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base


class _Teacher:
    """Stands where verl keeps its teacher manager until the real one is there."""

    def __init__(self, manager: Future):
        self._manager = manager

    def get_client(self):
        return self._manager.result().get_client()

    def __getattr__(self, name):
        return getattr(self._manager.result(), name)


class EngineStartup:
    """A context around verl's ``_setup``."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.started = time.time()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher-start-up")
        self._teacher: Future | None = None

    def begin(self) -> None:
        """Called when the pools are known: make them once, and start the teacher in its own."""
        pools = self.trainer.resource_pool_manager
        self.trainer.events.milestone("starting workers and engines")
        pools.create_resource_pool()
        pools.create_resource_pool = lambda: None
        if self.trainer.use_teacher_policy:
            pool = pools.get_resource_pool(Role.TeacherModel)
            self._teacher = self._threads.submit(self._manager_class, config=self.trainer.config, resource_pool=pool)

    def __enter__(self):
        self._manager_class = trainer_base.MultiTeacherModelManager
        trainer_base.MultiTeacherModelManager = self._hand_over
        return self

    def _hand_over(self, config, resource_pool) -> _Teacher:
        """Called by verl in place of its manager's class, once the student's trainer is ready."""
        self.trainer.events.milestone("student's trainer is ready, waiting for the engines")
        return _Teacher(self._teacher)

    def __exit__(self, kind, error, trace):
        trainer_base.MultiTeacherModelManager = self._manager_class
        if error is None and self._teacher is not None:
            self._teacher.result()
        self._threads.shutdown(wait=False)
