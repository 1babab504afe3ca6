"""Replacements inside vLLM's CPU worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from prefix_opd.base.patching import around
from prefix_opd.method.flops import ModelShape

THREADS_PAY_FROM = 2_000_000
"""Number of matrix parameters from which more threads make an engine faster. The products of a smaller model are so
small that distributing them takes longer than computing them."""


@around
def keeping_weights(vllms_own, layer, remove_weight) -> None:
    """``dispatch_cpu_unquantized_gemm`` that keeps ``layer.weight`` for weight syncs.

    On a CPU, vLLM packs each linear layer for oneDNN and replaces ``layer.weight`` by an empty tensor
    (``remove_weight=True``), which a later weight sync cannot load into. Here the weight stays. At the end of each
    sync verl has vLLM process the weights again (verl/workers/rollout/vllm_rollout/utils.py:
    ``update_weights_from_ipc``), which packs the new weights.
    """
    vllms_own(layer, remove_weight=False)


@around
def never(vllms_own, *args, **kwargs) -> bool:
    """``check_cpu_sgl_kernel`` that returns False: SGLang's kernel packs weights in place."""
    return False


@around
def packing_experts_again(vllms_own, self, layer, w13, w2) -> None:
    """``UnquantizedFusedMoEMethod._setup_kernel`` that packs the experts also after a weight sync."""
    synced = self.moe_kernel is not None
    vllms_own(self, layer, w13, w2)
    if synced:
        self.moe_kernel.fused_experts.process_weights_after_loading(layer)


def native_sampler(original: Callable) -> Callable:
    """``TopKTopPSampler.forward_native`` in place of ``forward_cpu``.

    ``forward_cpu`` draws noise for all rows before the seeded rows, and ignores all seeds in a batch with an unseeded
    row. ``forward_native`` draws the same tokens and has neither problem.
    """
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

    return TopKTopPSampler.forward_native


@around
def taking_cores(verls_own, cls, **kwargs):
    """``vLLMColocateWorkerExtension.__new__`` that gives the engine all cores if the model is large enough."""
    take_cores(kwargs["vllm_config"].model_config.hf_config)
    return verls_own(cls, **kwargs)


def take_cores(config: Any) -> None:
    """``config``: the model's, of transformers."""
    import torch

    if ModelShape.from_config(config.get_text_config().to_dict()).matmul_parameters >= THREADS_PAY_FROM:
        torch.set_num_threads(os.cpu_count() or 1)
