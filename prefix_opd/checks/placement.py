"""The teacher on the student's GPUs: settings that must fit the placement and its phases."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.together import engine_keys
from prefix_opd.config.settings import Settings
from prefix_opd.cost.memory import PLACEMENT_KEY, is_shared

PHASES_KEY = "prefix_opd.teacher.phases"
KV_BYTES = "engine_kwargs.vllm.kv_cache_memory_bytes"


def check_placement(config: DictConfig, settings: Settings) -> None:
    """Reject a teacher without GPUs in its placement, and phases that its engines cannot take. Raises UserError."""
    teacher = settings.teacher
    if teacher.urls:  # on no GPU of the run: the placement and phases of a layout do not matter
        return
    if teacher.placement == "shared":
        for name in ("n_gpus_per_node", "nnodes"):
            given, trainers = config.distillation[name], config.trainer[name]
            if given != trainers:
                raise UserError(
                    f"distillation.{name}={given}",
                    f"differs from trainer.{name}={trainers}, whose GPUs the teacher shares ({PLACEMENT_KEY}=shared)",
                    f"leave it out, or set {PLACEMENT_KEY}=own",
                )
    if teacher.phases == "overlap":
        return
    if teacher.placement == "own":
        raise UserError(
            f"{PHASES_KEY}=turns",
            f"leaves the teacher's GPUs idle while the student samples: with {PLACEMENT_KEY}=own nothing is shared",
            f"set {PLACEMENT_KEY}=shared, or {PHASES_KEY}=overlap",
        )
    if settings.rollout.off_policy_steps:
        raise UserError(
            f"prefix_opd.rollout.off_policy_steps={settings.rollout.off_policy_steps}",
            f"samples and scores during the update, and {PHASES_KEY}=turns keeps these phases apart",
            f"set {PHASES_KEY}=overlap",
        )
    if config.platform == "cpu":  # engines stay in memory there; the order of the phases is the same
        return
    for node in engine_keys(config):
        if not OmegaConf.select(config, f"{node}.free_cache_engine"):
            raise UserError(
                f"{node}.free_cache_engine=false",
                f"keeps the engine awake in the turns of the others ({PHASES_KEY}=turns), so a turn frees nothing",
                f"set it to true, or {PHASES_KEY}=overlap",
            )


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
