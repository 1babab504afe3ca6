"""A teacher with wrong answers at given steps, in the real program.

Set ``actor_rollout_ref.rollout.agent.agent_loop_manager_class`` to use it. The environment gives the fault of each
step: ``TEACHER_FAULTS=2:uniform,3:shifted``. Only the first attempt of a step is spoilt, so that the second attempt
succeeds.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import os

import ray

from faults.harness import TEACHER_FAULTS
from prefix_opd.verl_plugin.worker.agent_loop import ATTEMPT, PrefixAgentLoopManager, PrefixAgentLoopWorker

_fault: contextvars.ContextVar[str] = contextvars.ContextVar("fault", default="")


def planned() -> dict[int, str]:
    pairs = (entry.split(":") for entry in os.environ.get(TEACHER_FAULTS, "").split(",") if entry)
    return {int(step): fault for step, fault in pairs}


class WrongTeacher:
    """Wraps verl's teacher client and spoils its answers."""

    def __init__(self, client, vocabulary: int):
        self.client, self.vocabulary = client, vocabulary

    def __getattr__(self, name):
        return getattr(self.client, name)

    async def compute_teacher_logprobs_single(self, *args, **kwargs):
        fault = _fault.get()
        if fault == "stalled":
            await asyncio.sleep(3600)
        ids, log_probs = await self.client.compute_teacher_logprobs_single(*args, **kwargs)
        if fault == "uniform":
            log_probs = log_probs * 0 - math.log(self.vocabulary)
        elif fault == "not_finite":
            log_probs = log_probs * float("nan")
        elif fault == "shifted":
            ids = ids.roll(1, 0)
        elif fault == "short":
            ids, log_probs = ids[:-2], log_probs[:-2]
        return ids, log_probs


class SpoiltWorker(PrefixAgentLoopWorker):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.faults = planned()
        self.teacher_server_manager = WrongTeacher(self.teacher_server_manager, len(self.tokenizer))

    async def _run_agent_loop(self, sampling_params, trajectory, **kwargs):
        first = not trajectory["validate"] and ATTEMPT not in kwargs
        _fault.set(self.faults.get(int(trajectory["step"]), "") if first else "")
        return await super()._run_agent_loop(sampling_params, trajectory, **kwargs)


class SpoiltManager(PrefixAgentLoopManager):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(SpoiltWorker)
