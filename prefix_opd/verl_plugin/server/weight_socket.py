"""Each run sends its weights through a socket of its own.

verl names the socket between a trainer and its engine after Ray's job id (verl/workers/rollout/vllm_rollout:
vllm_rollout.py:141, vllm_async_server.py:143), which is 01000000 in every cluster that a run starts for itself. Two
runs on one machine would meet in one socket: one waits for ever, or its engine takes the other's weights. Here the
name holds Ray's session as well.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable


def own_name() -> str:
    """Ray's session and job: what no other run on this machine shares."""
    import ray

    context = ray.get_runtime_context()
    return f"{context.get_session_name()}-{context.get_job_id()}"


def renamed_at_the_trainer(original: Callable) -> Callable:
    """``ServerAdapter.__init__``, whose end of the socket gets the run's own name."""

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        name = own_name()
        self.zmq_handle = self.zmq_handle.replace(f"-{name.rpartition('-')[2]}-", f"-{name}-")

    return __init__


def renamed_at_the_engine(original: Callable) -> Callable:
    """``vLLMHttpServer.__init__``, whose engine gets the run's own name. Both ends are always on one machine."""

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        os.environ["VERL_RAY_JOB_ID"] = own_name()  # the engine, started later, takes it from here

    return __init__
