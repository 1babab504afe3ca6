"""Each engine's share of a GPU, in bytes, before anything starts.

Without ``kv_cache_memory_bytes`` vLLM measures, while it starts, what its GPU has left. Two engines that start on one
GPU would measure each other, and the trainer's states come later. So their caches follow from `prefix_opd.cost.memory`.
"""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.cards import smallest_card
from prefix_opd.checks.placement import KV_BYTES
from prefix_opd.config.teachers import teachers
from prefix_opd.cost.arithmetic import GIB
from prefix_opd.cost.memory import INFERENCE_KEY, ROLLOUT_KEY, URL_KEY, is_shared, shortages
from prefix_opd.cost.models import label
from prefix_opd.cost.plan import plan

MEBIBYTE = 1 << 20
FREE_AT_START = 0.01
"""`gpu_memory_utilization` of an engine whose cache has a size in bytes. vLLM then uses it for one thing: it does not
start unless this share of the GPU is free (vllm/v1/worker/utils.py: request_memory)."""


def fit_engines(config: DictConfig) -> None:
    """Set the KV cache of engines that share a GPU or have gpu_memory_utilization=null. What the user gives stays.

    Raises:
        UserError: a phase needs more than the GPU has, or no sequence fits a cache; the message gives the sum.
    """
    nodes = {"student": OmegaConf.select(config, ROLLOUT_KEY)}
    if OmegaConf.select(config, URL_KEY):  # no engine of the run; verl's config still wants a number
        OmegaConf.select(config, INFERENCE_KEY).gpu_memory_utilization = FREE_AT_START
    else:
        nodes |= {label(one): OmegaConf.select(config, one.inference_key) for one in teachers(config)}
    shared = is_shared(config) and config.platform != "cpu"  # platform/cpu.yaml gives the bytes
    open_ones = [who for who, node in nodes.items() if shared or node.gpu_memory_utilization is None]
    if not open_ones:
        return
    planned = plan(config, smallest_card()).memory_gib
    for short in shortages(planned, ("sampling", "scoring")):
        raise UserError(short.what, short.rule, short.fix)
    for who in open_ones:
        node, engine = nodes[who], planned[who]["engine"]
        if OmegaConf.select(node, KV_BYTES) is None:
            size = int(engine["kv_cache_room"] * GIB / MEBIBYTE) * MEBIBYTE
            OmegaConf.update(node, KV_BYTES, size, force_add=True)
        node.gpu_memory_utilization = FREE_AT_START
