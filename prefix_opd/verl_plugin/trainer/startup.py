"""Place the teacher, and start student and teacher in parallel.

A thread starts the teacher as soon as the resource pools exist. verl's ``_setup`` waits for it at its end.

On shared GPUs engines wait for each other where vLLM measures free memory (`prefix_opd.checks.placement`).
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from verl.trainer.ppo.utils import Role
from verl.utils.device import get_device_name

from prefix_opd.base.patching import around, is_replaced, original
from prefix_opd.checks import placement
from prefix_opd.verl_plugin.trainer import turns

TEACHER = "verl.trainer.ppo.v1.trainer_base:MultiTeacherModelManager"

_under_way: EngineStartup | None = None
"""The start-up of this process that is starting a teacher."""


class _Teacher:
    """Placeholder for verl's teacher manager. Any access waits for the real manager."""

    def __init__(self, manager: Future):
        self._manager = manager

    def __getattr__(self, name):
        return getattr(self._manager.result(), name)


@around
def the_one_under_way(verls_own, config, resource_pool) -> Any:
    """Replace ``MultiTeacherModelManager``: return the teacher that `EngineStartup` is starting, or a new one."""
    if config.prefix_opd.teacher.url:
        from prefix_opd.verl_plugin.server.remote_teacher import RemoteTeacherManager  # it imports what is patched

        return RemoteTeacherManager(config)
    return verls_own(config=config, resource_pool=resource_pool) if _under_way is None else _under_way.hand_over()


@around
def once(verls_own, self) -> None:
    """``ResourcePoolManager.create_resource_pool``. Does nothing if the pools exist."""
    if not self.resource_pool_dict:
        verls_own(self)


def share_pool(pools: Any) -> None:
    """Give the teacher the student's resource pool in place of its own, before verl's manager creates them."""
    del pools.resource_pool_spec["teacher_pool"]
    pools.mapping[Role.TeacherModel] = "global_pool"


class EngineStartup:
    """Context around verl's ``_setup``. Without the patch `startup` verl starts one engine after the other."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.started = time.time()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="teacher-start-up")
        self._teacher: Future | None = None

    def begin(self) -> None:
        """Create the resource pools and start the teacher. Called when the pools are configured."""
        global _under_way
        if not self.trainer.use_teacher_policy:
            return
        self.trainer.events.milestone("starting workers and engines")
        pools = self.trainer.resource_pool_manager
        shared = self.trainer.settings.teacher.is_shared
        elsewhere = bool(self.trainer.settings.teacher.urls)
        if elsewhere or shared:
            share_pool(pools)
        if elsewhere or not is_replaced(TEACHER):
            return
        pools.create_resource_pool()
        if shared:  # both threads need the placement groups, and each would make them
            pools.get_resource_pool(Role.TeacherModel).get_placement_groups(device_name=get_device_name())
        _under_way = self
        if not placement.measures_memory(self.trainer.config):
            self._start()

    def _start(self) -> None:
        pool = self.trainer.resource_pool_manager.get_resource_pool(Role.TeacherModel)
        self._teacher = self._threads.submit(original(TEACHER), config=self.trainer.config, resource_pool=pool)

    def hand_over(self) -> _Teacher:
        """The placeholder for verl's teacher manager. verl asks for it when the student's trainer is ready."""
        self.trainer.events.milestone("student's trainer is ready, waiting for the engines")
        if self._teacher is None:
            self._start()
        if placement.one_after_the_other(self.trainer.config):
            manager = self._teacher.result()
            if self.trainer.turns.taken:
                turns.call(turns.replicas(manager), "sleep")
        return _Teacher(self._teacher)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        global _under_way
        _under_way = None
        if error is None and self._teacher is not None:
            self._teacher.result()
        self._threads.shutdown(wait=False)
