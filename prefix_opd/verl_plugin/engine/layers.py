"""The layers of an update: compiled, and without gradient checkpointing where the memory suffices.

Eager layers spend as much time in norms, rotary embedding and SwiGLU, which read and write memory, as in matrix
products. ``torch.compile`` fuses these. Gradient checkpointing adds a third to the FLOP of an update; short prefixes
leave the memory to do without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import distributed

from prefix_opd.cost.activations import kept_bytes
from prefix_opd.cost.arithmetic import GIB
from prefix_opd.method.flops import ModelShape
from prefix_opd.verl_plugin.fields import SETTINGS

LEAST = 4096
"""Tokens of a micro-batch below which checkpointing costs less than small micro-batches."""
FUSED, PLAIN = 2, 10
"""Bytes of a logit: in bf16 alone, or with an fp32 log-softmax and its gradient."""
USABLE, SPARE = 0.85, 3 * GIB
"""Share of the free memory that is planned for, and bytes left beside it: a chunk of logits, gathered layers."""


def prepare(engine: Any, module: torch.nn.Module, data: TensorDict, fuses: bool) -> None:
    """Compile the layers of an engine's model and choose checkpointing for an update, as the batch's settings ask.

    ``fuses``: ``update.fused_head`` has an effect on the passes of this batch.
    """
    from verl.utils import tensordict_utils as tu

    settings = tu.get_non_tensor_data(data, SETTINGS, default=None)
    if settings is None:
        return
    if settings.update.compile_layers:
        compile_layers(module)
    if settings.update.fit_memory and torch.cuda.is_available():
        room = USABLE * (_free() - _pending(engine)) - SPARE
        wide = _bytes_of_a_weight(engine) / 2  # activations are counted in bf16
        logit_bytes = FUSED if fuses and settings.update.fused_head else PLAIN
        fit_memory(module, data, room / wide, engine.get_data_parallel_group(), logit_bytes)


def compile_layers(module: torch.nn.Module) -> None:
    """Compile each layer's forward pass for passes with a gradient, for any length. FSDP's hooks stay outside."""
    for layer in _layers(module):
        if "forward" not in vars(layer):
            layer.forward = _compiled_with_gradient(layer.forward)


def _compiled_with_gradient(eager: Callable) -> Callable:
    compiled = torch.compile(eager, dynamic=True)

    @functools.wraps(eager)
    def forward(*args, **kwargs):
        return (compiled if torch.is_grad_enabled() else eager)(*args, **kwargs)

    return forward


def checkpoint(module: torch.nn.Module, on: bool) -> None:
    """Switch gradient checkpointing on or off in a model that was built with it."""
    for layer in _layers(module):
        layer.gradient_checkpointing = on


def are_checkpointed(module: torch.nn.Module) -> bool:
    return any(layer.gradient_checkpointing for layer in _layers(module))


def fit_memory(module: torch.nn.Module, data: TensorDict, room: float, group: Any, logit_bytes: int) -> None:
    """Do without checkpointing if the activations of micro-batches of `LEAST` tokens or more fit.

    Limits the tokens of a micro-batch to what fits, at most ``ppo_max_token_len_per_gpu``. All ranks choose alike.

    Args:
        room: bytes for activations.
        group: the data-parallel process group.
        logit_bytes: bytes of a logit that a pass keeps.
    """
    from verl.utils import tensordict_utils as tu

    if not any(hasattr(layer, "_gradient_checkpointing_func") for layer in _layers(module)):
        return  # built without checkpointing
    lengths, budget = data["input_ids"].offsets().diff(), int(data["max_token_len_per_gpu"])
    try:
        shape = ModelShape.from_config(module.config.to_dict())
        compiled = any("forward" in vars(layer) for layer in _layers(module))
        fits = int(room // (kept_bytes(shape, compiled) + logit_bytes * shape.vocab_size))
    except (KeyError, ValueError):  # not a dense decoder: nothing is known of its activations
        fits = 0
    least = max(int(lengths.max()), min(LEAST, int(lengths.sum())))
    least, fits = (int(value) for value in highest([least, -fits], group))  # of all ranks: the most needed, -the least
    checkpoint(module, on=-fits < least)
    if -fits >= least:
        tu.assign_non_tensor(data, max_token_len_per_gpu=min(budget, -fits))


def highest(values: Sequence[float], group: Any) -> list[float]:
    """The maximum of each value over all data-parallel ranks."""
    if group is None or not distributed.is_initialized() or distributed.get_world_size(group) == 1:
        return list(values)
    from verl.utils.device import get_device_name

    tensor = torch.tensor(values, dtype=torch.float64, device=get_device_name())
    distributed.all_reduce(tensor, op=distributed.ReduceOp.MAX, group=group)
    return tensor.tolist()


def _free() -> int:
    """Free bytes of the GPU, those that torch holds in reserve included."""
    return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def _pending(engine: Any) -> int:
    """Bytes that the update allocates on the GPU besides activations."""
    whole = local = gathered = 0
    for parameter in engine.module.parameters():
        gathered += _bytes_of_a_weight(engine) * parameter.numel()
        if parameter.requires_grad:
            shard = parameter.to_local() if hasattr(parameter, "to_local") else parameter
            whole += 4 * parameter.numel()
            local += 4 * shard.numel() if shard.device.type != "cpu" else 0
    config = engine.engine_config
    # FSDP2 sums whole gradients in fp32, and frees those of a layer while it writes their shards
    gradients = whole if config.use_no_sync_for_gradient_accumulation else local
    kept = 0 if config.reshard_after_forward else gathered  # on one rank too, as FSDP2 copies its weights
    # AdamW makes its two moments in its first step
    return kept + gradients + (0 if engine.optimizer.state else 2 * local)


def _bytes_of_a_weight(engine: Any) -> int:
    """In the forward pass."""
    return 4 if (engine.engine_config.mixed_precision or {}).get("param_dtype", "bf16") == "fp32" else 2


def _layers(module: torch.nn.Module) -> list[Any]:
    # here, because transformers imports this module while it is being imported (the patch of sdpa)
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [layer for layer in module.modules() if isinstance(layer, GradientCheckpointingLayer)]
