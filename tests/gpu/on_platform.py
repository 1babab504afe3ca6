"""Where the self-test runs: ``PREFIX_OPD_TEST_PLATFORM`` is gpu, cpu (a rehearsal), or unset."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec

from prefix_opd.config.keys import ATTENTION_KEY, PACKED_ATTENTION

PLATFORM = os.environ.get("PREFIX_OPD_TEST_PLATFORM", "")
GIB = 2**30


def cards() -> int:
    """GPUs that nvidia-smi lists."""
    if shutil.which("nvidia-smi") is None:
        return 0
    told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return told.stdout.count("\n") if told.returncode == 0 else 0


def why_not() -> str:
    """Why the self-test does not run here; empty if it does."""
    if PLATFORM not in ("cpu", "gpu"):
        return "bash scripts/test_gpu.sh runs it"
    if PLATFORM == "gpu" and not cards():
        return "no GPU here: nvidia-smi lists none"
    return ""


def attention() -> str:
    """The fastest attention for packed sequences that is installed."""
    if PLATFORM == "gpu":
        return "flash_attention_2" if find_spec("flash_attn") else PACKED_ATTENTION
    return "sdpa"


def overrides(cards: int = 1) -> list[str]:
    """A run whose trainer and engines share ``cards`` GPUs; on a CPU they are simulated."""
    shared = [
        "prefix_opd.teacher.placement=shared",
        "prefix_opd.teacher.phases=turns",
        f"trainer.n_gpus_per_node={cards}",
    ]
    if PLATFORM == "cpu":
        return ["platform=cpu", f"ray_kwargs.ray_init.num_gpus={cards}", *shared]
    engines = ("actor_rollout_ref.rollout", "distillation.teacher_models.teacher_model.inference")
    return [
        "platform=gpu",
        *shared,
        f"{ATTENTION_KEY}={attention()}",
        *(f"++{engine}.engine_kwargs.vllm.kv_cache_memory_bytes={GIB}" for engine in engines),
        f"{engines[0]}.max_num_seqs=128",  # CUDA graphs for no larger batches
        f"{engines[1]}.enforce_eager=true",  # it only scores prompts, which no graph serves
        # verl's defaults are 8 each, and every process imports torch, verl and vLLM
        "actor_rollout_ref.rollout.agent.num_workers=2",
        "reward.num_workers=1",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=2",
    ]
