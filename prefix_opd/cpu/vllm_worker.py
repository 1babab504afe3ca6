"""What runs inside vLLM's CPU worker."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from prefix_opd.method.flops import ModelShape

THREADS_PAY_FROM = 2_000_000
"""Matrix parameters of a model from which on more threads than one make an engine faster. Below, each step of the
decoder is a row of products so small that handing them out takes longer than they do."""


def keeping_weights(original: Callable) -> Callable:
    """``dispatch_cpu_unquantized_gemm`` that leaves ``layer.weight`` where a weight sync can load into it.

    vLLM on a CPU packs each linear layer for oneDNN and replaces ``layer.weight`` by an empty tensor
    (``remove_weight=True``). A weight sync after start-up would then load into nothing. Here the weight stays, and
    verl, which has vLLM process weights again at the end of each sync
    (verl/workers/rollout/vllm_rollout/utils.py: ``update_weights_from_ipc``), packs the new.
    """

    @functools.wraps(original)
    def dispatch_cpu_unquantized_gemm(layer, remove_weight):
        return original(layer, remove_weight=False)

    return dispatch_cpu_unquantized_gemm


def never(original: Callable) -> Callable:
    """``check_cpu_sgl_kernel`` that says no: SGLang's kernel packs weights in place."""

    @functools.wraps(original)
    def check_cpu_sgl_kernel(*args, **kwargs):
        return False

    return check_cpu_sgl_kernel


def native_sampler(original: Callable) -> Callable:
    """``TopKTopPSampler.forward_native`` in place of ``forward_cpu``.

    The one for CPUs draws noise for all rows before it draws that of each seeded row, and no seed counts in a batch
    where a row has none. The native one draws the same tokens, without either.
    """
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

    return TopKTopPSampler.forward_native


def taking_cores(original: Callable) -> Callable:
    """``vLLMColocateWorkerExtension.__new__`` that gives the engine all cores if the model fills them."""

    @functools.wraps(original)
    def __new__(cls, **kwargs):
        take_cores(kwargs["vllm_config"].model_config.hf_config)
        return original(cls, **kwargs)

    return __new__


def take_cores(config: Any) -> None:
    """
    Args:
        config: of transformers, the model's.
    """
    import torch

    if ModelShape.from_config(config.to_dict()).matmul_parameters >= THREADS_PAY_FROM:
        torch.set_num_threads(os.cpu_count() or 1)
