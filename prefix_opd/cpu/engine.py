"""vLLM on a CPU as rollout and as teacher, through verl's subclass hooks."""

from __future__ import annotations

from prefix_opd.base.on_import import call_after_import


def register() -> None:
    """Put our replica in the place of verl's under the name "vllm": other tables know the built-in names only."""

    def register_replica(replica) -> None:
        replica.RolloutReplicaRegistry.register("vllm", _load_replica)

    # verl.workers.rollout.replica takes seconds to import and most processes never need it
    call_after_import("verl.workers.rollout.replica", register_replica)


def _load_replica():
    import ray
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

    class CpuvLLMHttpServer(vLLMHttpServer):
        def _get_worker_extension_cls(self) -> str:
            return "prefix_opd.cpu.vllm_worker.CpuWorkerExtension"

    class CpuvLLMReplica(vLLMReplica):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.server_class = ray.remote(CpuvLLMHttpServer)

    return CpuvLLMReplica
