"""End a run that waits for a process without a limit: for one that Ray cannot start, or for one that died.

Ray waits for a free CPU or GPU without a message. verl and TransferQueue wait for answers of dead processes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray
from ray._private import state
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.core.generated.gcs_pb2 import ActorTableData, PlacementGroupTableData

from prefix_opd.checks.cluster import CPUS_KEY
from prefix_opd.run.events import MILESTONE, NewEvents

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
GRACE_SECONDS = 30.0
"""After a death, for those that notice it and know more: the trainer, a watcher, the engines' health page."""
SECONDS_KEY = "prefix_opd.start_up_seconds"
_WAIT = (ActorTableData.DEPENDENCIES_UNREADY, ActorTableData.PENDING_CREATION, ActorTableData.RESTARTING)


class ProcessWatch:
    """Kills ``task``, the actor that the launcher waits for, when the run can only wait.

    - The start-up made no progress for ``seconds``. A new milestone and a change of any of the run's actors or worker
      groups are progress. The start-up ends with the milestone that has the run's first step.
    - A process of the run died, and the run has neither ended nor said why after ``grace`` seconds.
    """

    def __init__(self, task: Any, run: Path, seconds: float, look: float = LOOK_SECONDS, grace: float = GRACE_SECONDS):
        self.task, self.seconds, self.look, self.grace = task, seconds, look, grace
        self.events = NewEvents(run)
        self.job = ray.get_runtime_context().get_job_id()
        self.reason = ""
        """Why the task was killed, in one line; empty if it was not."""
        self._starting, self._milestone = True, "Ray's start"
        self._seen: Any = None
        self._since = time.monotonic()
        self._died: dict[bytes, float] = {}
        threading.Thread(target=self._watch, daemon=True, name="process-watch").start()

    def _watch(self) -> None:
        actors, groups = [], []
        while ray.is_initialized():
            try:
                actors, groups = processes(self.job)
            except Exception:  # Ray shuts down, or does not answer now
                logger.debug("Ray does not tell its processes", exc_info=True)
            self.reason = self._dead(actors) or self._stuck(actors, groups)
            if self.reason:
                ray.kill(self.task)
                return
            time.sleep(self.look)

    def _stuck(self, actors: list[ActorTableData], groups: list[PlacementGroupTableData]) -> str:
        """Why the start-up goes no further."""
        for event in self.events.take() if self._starting else ():
            if event.kind == MILESTONE:
                self._milestone = event.text
                self._starting = self._starting and event.step is None
        found = self._milestone, {one.actor_id: one.state for one in actors}, [one.state for one in groups]
        if found != self._seen:
            self._seen, self._since = found, time.monotonic()
        if not self._starting or time.monotonic() - self._since < self.seconds:
            return ""
        what = awaited(actors, groups)
        return f"the start-up made no progress in {self.seconds:g} s after '{self._milestone}': {what}"

    def _dead(self, actors: list[ActorTableData]) -> str:
        """Which process died more than ``grace`` seconds ago."""
        now = time.monotonic()
        for actor in actors:
            if (why := died(actor)) and now - self._died.setdefault(actor.actor_id, now) >= self.grace:
                return why
        return ""


def died(actor: ActorTableData) -> str:
    """How an actor died, in one line; empty if it lives, or was ended on purpose."""
    cause = actor.death_cause
    who = f"the process {actor.class_name} (pid {actor.pid})"
    if actor.state != ActorTableData.DEAD:
        return ""
    if cause.HasField("oom_context"):
        return f"Ray killed {who}: the machine's memory was full"
    if cause.actor_died_error_context.reason == ActorDiedErrorContext.NODE_DIED:
        return f"{who} is lost with its node"
    if cause.actor_died_error_context.reason == ActorDiedErrorContext.WORKER_DIED:
        return f"{who} died; was it killed, or out of memory (`dmesg | tail`)?"
    return ""


def processes(job: str) -> tuple[list[ActorTableData], list[PlacementGroupTableData]]:
    """The actors and the worker groups (placement groups) of a Ray job, as Ray's control service knows them."""
    ray_state = state.state._connect_and_get_accessor()
    actors = [ActorTableData.FromString(raw) for raw in ray_state.get_actor_table(ray.JobID.from_hex(job), None)]
    groups = [PlacementGroupTableData.FromString(raw) for raw in ray_state.get_placement_group_table()]
    return actors, [group for group in groups if group.creator_job_id.hex() == job]


def awaited(actors: list[ActorTableData], groups: list[PlacementGroupTableData]) -> str:
    """What has no place in Ray, what it asks for, and what Ray has."""
    names = Counter(
        f"{actor.class_name} ({_shown(actor.required_resources) or '1 CPU to start'})"
        for actor in actors
        if actor.state in _WAIT
    )
    names.update(
        f"a group of workers ({' + '.join(_shown(bundle.unit_resources) for bundle in group.bundles)})"
        for group in groups
        if group.state == PlacementGroupTableData.PENDING
    )
    if not names:
        return f"every process has a place in Ray, but none makes progress; see the log above, or raise {SECONDS_KEY}"
    waiting = ", ".join(name if count == 1 else f"{count} x {name}" for name, count in sorted(names.items()))
    free, total = ray.available_resources(), ray.cluster_resources()
    has = " and ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
    return f"no place in Ray for {waiting}; free are {has}: raise {CPUS_KEY}, end other jobs, or add nodes"


def _shown(resources: Any) -> str:
    return ", ".join(f"{amount:g} {kind}" for kind, amount in sorted(resources.items()))
