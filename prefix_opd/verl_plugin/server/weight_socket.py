"""A separate weight socket for each run.

verl names the socket between trainer and engine after Ray's job id (verl/workers/rollout/vllm_rollout:
vllm_rollout.py:141, vllm_async_server.py:143). A run that starts its own cluster always has job id 01000000. Two runs
on one machine would share a socket: one run hangs, or its engine receives the other's weights. Here the name also
contains Ray's session.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable


def own_name() -> str:
    """Ray's session and job id, unique on this machine."""
    import ray

    context = ray.get_runtime_context()
    return f"{context.get_session_name()}-{context.get_job_id()}"


def renamed_at_the_trainer(original: Callable) -> Callable:
    """Wrap ``ServerAdapter.__init__``: put the run's own name into the trainer's end of the socket."""

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        name = own_name()
        self.zmq_handle = self.zmq_handle.replace(f"-{name.rpartition('-')[2]}-", f"-{name}-")

    return __init__


def renamed_at_the_engine(original: Callable) -> Callable:
    """Wrap ``vLLMHttpServer.__init__``: pass the run's own name to the engine. Both ends are on one machine."""

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        os.environ["VERL_RAY_JOB_ID"] = own_name()  # read by the engine, which starts later

    return __init__
