"""What runs inside vLLM's CPU worker."""

from __future__ import annotations

import functools
import os
from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from prefix_opd.method.flops import ModelShape

THREADS_PAY_FROM = 2_000_000
"""Matrix parameters of a model from which on more threads than one make an engine faster. Below, each step of the
decoder is a row of products so small that handing them out takes longer than they do."""


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """Keep weights where new ones can be loaded, take all cores if the model fills them, and mind the rollouts' seeds.

    vLLM on a CPU packs each linear layer for oneDNN and replaces ``layer.weight`` by an empty tensor
    (vllm/model_executor/layers/utils.py: ``dispatch_cpu_unquantized_gemm``, ``remove_weight=True``). A weight sync
    after start-up would then load into nothing. Here the weight stays, and verl, which has vLLM process weights again
    at the end of each sync (verl/workers/rollout/vllm_rollout/utils.py: ``update_weights_from_ipc``), packs the new.

    vLLM's sampler for CPUs (vllm/v1/sample/ops/topk_topp_sampler.py: ``forward_cpu``) draws noise for all rows before
    it draws that of each seeded row, and no seed counts in a batch where a row has none. The native one draws the same
    tokens, without either.
    """

    def __new__(cls, **kwargs):
        import vllm.model_executor.layers.utils as layers
        from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

        _keep_weights(layers)
        layers.check_cpu_sgl_kernel = lambda *args, **kwargs: False
        TopKTopPSampler.forward_cpu = TopKTopPSampler.forward_native
        _take_cores(kwargs["vllm_config"].model_config.hf_config)
        return super().__new__(cls, **kwargs)


def _keep_weights(layers: Any) -> None:
    original = layers.dispatch_cpu_unquantized_gemm
    if getattr(original, "prefix_opd", False):
        return

    @functools.wraps(original)
    def dispatch_cpu_unquantized_gemm(layer, remove_weight):
        return original(layer, remove_weight=False)

    dispatch_cpu_unquantized_gemm.prefix_opd = True
    layers.dispatch_cpu_unquantized_gemm = dispatch_cpu_unquantized_gemm


def _take_cores(config: Any) -> None:
    import torch

    if ModelShape.from_config(config.to_dict()).matmul_parameters >= THREADS_PAY_FROM:
        torch.set_num_threads(os.cpu_count() or 1)
