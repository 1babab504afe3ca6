"""What runs inside vLLM's CPU worker."""

from __future__ import annotations

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """Keep linear layers in plain torch, so that new weights have somewhere to go.

    vLLM on a CPU packs each linear layer into a oneDNN handle and replaces ``layer.weight`` by an empty tensor
    (vllm/model_executor/layers/utils.py: ``dispatch_cpu_unquantized_gemm``, ``remove_weight=True``). A weight sync
    after start-up would then load into nothing.
    """

    def __new__(cls, **kwargs):
        import vllm._custom_ops
        import vllm.model_executor.layers.utils as layers

        vllm._custom_ops._supports_onednn = False
        layers.check_cpu_sgl_kernel = lambda *args, **kwargs: False
        return super().__new__(cls, **kwargs)
