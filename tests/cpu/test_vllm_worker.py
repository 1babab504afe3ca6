"""vLLM's linear layers as the CPU worker sets them up: weights loaded later count; large models take all cores."""

import inspect
import os
from types import SimpleNamespace

import pytest
import torch
import vllm.model_executor.layers.utils as layers
from transformers import Qwen3Config
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from prefix_opd.cpu import vllm_worker


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_a_weight_loaded_after_start_up_counts_once_it_is_processed(rows, bias):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(48, 80, bias=bias).requires_grad_(False), torch.randn(rows, 48)
    for _ in range(2):
        layer.weight.copy_(torch.randn_like(layer.weight))
        layers.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)  # as vLLM's linear layers ask for it
        assert layer.weight.shape == (80, 48)
        found = layer.cpu_linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(found, torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_verl_processes_weights_at_the_end_of_a_sync():
    """Otherwise the engine would use the packed weights of the previous sync."""
    sync = inspect.getsource(vLLMColocateWorkerExtension.update_weights_from_ipc)
    received, processed = sync.index("receive_weights("), sync.rindex("process_weights_after_loading(model, ")
    assert received < processed


@pytest.mark.parametrize("hidden, threads", [(48, 1), (256, os.cpu_count())])
def test_threads_by_the_size_of_the_model(hidden, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = Qwen3Config(
            hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=8, vocab_size=64, head_dim=32,
            num_attention_heads=hidden // 24, num_key_value_heads=hidden // 48,
        )  # fmt: skip
        vllm_worker.take_cores(config)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_experts_are_packed_again_after_a_weight_sync():
    packed = []

    class Method:
        moe_kernel = None

        def _setup_kernel(self, layer, w13, w2):
            if self.moe_kernel is None:  # as vLLM: it packs the layer when it makes the kernel, and never again
                experts = SimpleNamespace(process_weights_after_loading=packed.append)
                self.moe_kernel = SimpleNamespace(fused_experts=experts)
                experts.process_weights_after_loading(layer)

    setup, method = vllm_worker.packing_experts_again(Method._setup_kernel), Method()
    for layer in ("start", "first sync", "second sync"):
        setup(method, layer, None, None)
    assert packed == ["start", "first sync", "second sync"]
