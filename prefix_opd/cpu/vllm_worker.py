"""What runs inside vLLM's CPU worker."""

from __future__ import annotations

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """Keep linear layers in plain torch, so that new weights have somewhere to go, and the seeds of all rollouts.

    vLLM on a CPU packs each linear layer into a oneDNN handle and replaces ``layer.weight`` by an empty tensor
    (vllm/model_executor/layers/utils.py: ``dispatch_cpu_unquantized_gemm``, ``remove_weight=True``). A weight sync
    after start-up would then load into nothing.

    Its sampler for CPUs (vllm/v1/sample/ops/topk_topp_sampler.py: ``forward_cpu``) draws noise for all rows before it
    draws that of each seeded row, and no seed counts in a batch where a row has none. The native one draws the same
    tokens, without either.
    """

    def __new__(cls, **kwargs):
        import vllm._custom_ops
        import vllm.model_executor.layers.utils as layers
        from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

        vllm._custom_ops._supports_onednn = False
        layers.check_cpu_sgl_kernel = lambda *args, **kwargs: False
        TopKTopPSampler.forward_cpu = TopKTopPSampler.forward_native
        return super().__new__(cls, **kwargs)
