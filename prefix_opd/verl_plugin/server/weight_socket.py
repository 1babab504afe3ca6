"""Each run sends its weights through a socket of its own.

verl names the socket between a trainer and its engine after Ray's job id (verl/workers/rollout/vllm_rollout:
vllm_rollout.py:141, vllm_async_server.py:143), which is 01000000 in every cluster that a run starts for itself. Two
runs on one machine would meet in one socket: one waits for ever, or its engine takes the other's weights. Here the
name holds Ray's session as well.
"""

from __future__ import annotations

import functools
import os
from types import ModuleType

from prefix_opd.base.on_import import call_after_import

_FOLDER = "verl.workers.rollout.vllm_rollout"


def register() -> None:
    """Change the names at both ends, once verl has imported them. Both are always on one machine."""
    call_after_import(f"{_FOLDER}.vllm_rollout", _rename_at_the_trainer)
    call_after_import(f"{_FOLDER}.vllm_async_server", _rename_at_the_engine)


def own_name() -> str:
    """Ray's session and job: what no other run on this machine shares."""
    import ray

    context = ray.get_runtime_context()
    return f"{context.get_session_name()}-{context.get_job_id()}"


def _rename_at_the_trainer(module: ModuleType) -> None:
    original = module.ServerAdapter.__init__

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        name = own_name()
        self.zmq_handle = self.zmq_handle.replace(f"-{name.rpartition('-')[2]}-", f"-{name}-")

    module.ServerAdapter.__init__ = __init__


def _rename_at_the_engine(module: ModuleType) -> None:
    original = module.vLLMHttpServer.__init__

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        os.environ["VERL_RAY_JOB_ID"] = own_name()  # the engine, started later, takes it from here

    module.vLLMHttpServer.__init__ = __init__
