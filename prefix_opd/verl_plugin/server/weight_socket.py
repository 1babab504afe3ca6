"""A separate weight socket for each run: its name contains Ray's session, not the job id alone."""

from __future__ import annotations

import os

from prefix_opd.base.patching import around


def own_name() -> str:
    """Ray's session and job id, unique on this machine."""
    import ray

    context = ray.get_runtime_context()
    return f"{context.get_session_name()}-{context.get_job_id()}"


@around
def renamed_at_the_trainer(verls_own, self, *args, **kwargs) -> None:
    """``ServerAdapter.__init__`` with the run's own name in the trainer's end of the socket."""
    verls_own(self, *args, **kwargs)
    name = own_name()
    self.zmq_handle = self.zmq_handle.replace(f"-{name.rpartition('-')[2]}-", f"-{name}-")


@around
def renamed_at_the_engine(verls_own, self, *args, **kwargs) -> None:
    """``vLLMHttpServer.__init__``, which passes the run's own name to the engine. Both ends are on one machine."""
    verls_own(self, *args, **kwargs)
    os.environ["VERL_RAY_JOB_ID"] = own_name()  # read by the engine, which starts later
