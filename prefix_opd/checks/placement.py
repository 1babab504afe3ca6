"""The teacher on the student's GPUs: settings that must fit, and each engine's share of a GPU before anything starts.

Without ``kv_cache_memory_bytes`` vLLM measures, while it starts, what its GPU has left. Two engines that start on one
GPU would measure each other, and the trainer's states come later. So their caches follow from `prefix_opd.cost.memory`.
"""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.cards import smallest_card
from prefix_opd.checks.cluster import KV_BYTES, MEBIBYTE
from prefix_opd.checks.together import engine_keys
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import teachers
from prefix_opd.cost.arithmetic import GIB
from prefix_opd.cost.memory import INFERENCE_KEY, PLACEMENT_KEY, ROLLOUT_KEY, URL_KEY, is_shared, shortages
from prefix_opd.cost.models import label
from prefix_opd.cost.plan import plan

PHASES_KEY = "prefix_opd.teacher.phases"
FREE_AT_START = 0.01
"""`gpu_memory_utilization` of an engine whose cache has a size in bytes. vLLM then uses it for one thing: it does not
start unless this share of the GPU is free (vllm/v1/worker/utils.py: request_memory)."""


def check_placement(config: DictConfig, settings: Settings) -> None:
    """Reject a teacher without GPUs in its placement, and phases that its engines cannot take. Raises UserError."""
    teacher, lag = settings.teacher, settings.rollout.off_policy_steps
    if teacher.urls:  # on no GPU of the run: the placement and phases of a layout do not matter
        return
    for name in ("n_gpus_per_node", "nnodes"):
        given, trainers = config.distillation[name], config.trainer[name]
        if teacher.placement == "shared" and given != trainers:
            rule = f"differs from trainer.{name}={trainers}, whose GPUs the teacher shares ({PLACEMENT_KEY}=shared)"
            raise UserError(f"distillation.{name}={given}", rule, f"leave it out, or set {PLACEMENT_KEY}=own")
    if teacher.phases == "overlap":
        return
    if teacher.placement == "own":
        rule = f"leaves the teacher's GPUs idle while the student samples: with {PLACEMENT_KEY}=own nothing is shared"
        raise UserError(f"{PHASES_KEY}=turns", rule, f"set {PLACEMENT_KEY}=shared, or {PHASES_KEY}=overlap")
    if lag:
        rule = f"samples and scores during the update, and {PHASES_KEY}=turns keeps these phases apart"
        raise UserError(f"prefix_opd.rollout.off_policy_steps={lag}", rule, f"set {PHASES_KEY}=overlap")
    for node in engine_keys(config) if config.platform != "cpu" else ():  # on a CPU engines never sleep
        if not OmegaConf.select(config, f"{node}.free_cache_engine"):
            rule = f"keeps the engine awake in the turns of the others ({PHASES_KEY}=turns), so a turn frees nothing"
            raise UserError(f"{node}.free_cache_engine=false", rule, f"set it to true, or {PHASES_KEY}=overlap")


def one_after_the_other(config: DictConfig) -> bool:
    """Whether the student's engine must wait for the teacher's to start.

    On a shared GPU vLLM measures the free memory at start-up, unless the size of its cache is given, and whenever it
    falls asleep (vllm/v1/worker/gpu_worker.py: determine_available_memory, sleep).
    """
    if not is_shared(config):
        return False
    engines = [OmegaConf.select(config, node) for node in engine_keys(config)]
    return any(engine.free_cache_engine or OmegaConf.select(engine, KV_BYTES) is None for engine in engines)


def measures_memory(config: DictConfig) -> bool:
    """Whether the teachers' engines must wait for the student's trainer: one measures the GPU that they share."""
    given = [OmegaConf.select(config, f"{node}.{KV_BYTES}") for node in engine_keys(config)[1:]]
    return is_shared(config) and None in given


def fit_engines(config: DictConfig) -> None:
    """Set the KV cache of engines that share a GPU or have gpu_memory_utilization=null. What the user gives stays.

    Raises UserError, with the sum, if a phase needs more than the GPU has or no sequence fits a cache.
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
    if short := shortages(planned, ("sampling", "scoring")):
        raise short[0]
    for who in open_ones:
        node, engine = nodes[who], planned[who]["engine"]
        if OmegaConf.select(node, KV_BYTES) is None:
            size = int(engine["kv_cache_room"] * GIB / MEBIBYTE) * MEBIBYTE
            OmegaConf.update(node, KV_BYTES, size, force_add=True)
        node.gpu_memory_utilization = FREE_AT_START
