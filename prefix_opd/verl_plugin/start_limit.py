"""End a start-up that makes no progress: Ray waits for a free CPU or GPU without a limit and without a message."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray
from ray._private import state
from ray.core.generated.gcs_pb2 import ActorTableData, PlacementGroupTableData

from prefix_opd.checks.cluster import CPUS_KEY
from prefix_opd.run.events import MILESTONE, NewEvents

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
SECONDS_KEY = "prefix_opd.start_up_seconds"
_WAIT = (ActorTableData.DEPENDENCIES_UNREADY, ActorTableData.PENDING_CREATION, ActorTableData.RESTARTING)


class StartLimit:
    """Kills ``task``, the actor that the launcher waits for, once the start-up made no progress for ``seconds``.

    A new milestone and a change of any of the run's actors or worker groups are progress. The start-up ends with the
    milestone that has the run's first step.
    """

    def __init__(self, task: Any, run: Path, seconds: float, look: float = LOOK_SECONDS):
        self.task, self.seconds, self.look = task, seconds, look
        self.events = NewEvents(run)
        self.job = ray.get_runtime_context().get_job_id()
        self.reason = ""
        """Why the task was killed, in one line; empty if it was not."""
        threading.Thread(target=self._watch, daemon=True, name="start-limit").start()

    def _watch(self) -> None:
        milestone, seen, since = "Ray's start", None, time.monotonic()
        actors, groups = [], []
        while ray.is_initialized():
            for event in self.events.take():
                if event.kind == MILESTONE:
                    milestone = event.text
                    if event.step is not None:
                        return
            try:
                actors, groups = processes(self.job)
            except Exception:  # Ray shuts down, or does not answer now
                logger.debug("Ray does not tell its processes", exc_info=True)
            found = milestone, {one.actor_id: one.state for one in actors}, [one.state for one in groups]
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since >= self.seconds:
                what = awaited(actors, groups)
                self.reason = f"the start-up made no progress in {self.seconds:g} s after '{milestone}': {what}"
                ray.kill(self.task)
                return
            time.sleep(self.look)


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
        return f"every process has a place in Ray, and none of them went on; see the log above, or raise {SECONDS_KEY}"
    waiting = ", ".join(name if count == 1 else f"{count} x {name}" for name, count in sorted(names.items()))
    free, total = ray.available_resources(), ray.cluster_resources()
    has = " and ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
    return f"no place in Ray for {waiting}; free are {has}: raise {CPUS_KEY}, end other jobs, or add nodes"


def _shown(resources: Any) -> str:
    return ", ".join(f"{amount:g} {kind}" for kind, amount in sorted(resources.items()))
