"""A case on GPUs as a run of verl, or on ``platform: cpu`` with tiny models to rehearse the path.

Ours and verl's own trainer differ in trainer, agent loop and loss (`benchmarks.verl_run`). Models, prompts, engines,
attention, micro-batches, optimiser, caps and the placement of the teacher are the same. verl's own run has none of our
patches but those that it cannot start without and `PATCHES`.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import NATIVE, NATIVE_POLL, OURS, VERLS_OWN
from benchmarks.gpu import cards
from benchmarks.gpu.cases import GPU, SHARED, GpuCase
from benchmarks.models import BEYOND, make_models, model_folders
from benchmarks.prompts import TRAIN, write_words
from benchmarks.steps import GATE, WALL
from benchmarks.verl_run import (
    LOG_PATH,
    VERLS_LOSS,
    VERLS_TRAINER,
    of_every_run,
    of_lengths,
    of_models,
    of_schedule,
    patches_off,
    steps_of,
)
from harness.machine import ROOT
from harness.process import LOG, RunFailed, run_forked, warm_up
from prefix_opd.base.files import read_lines
from prefix_opd.cpu import warm_python
from prefix_opd.method.flops import ModelShape
from prefix_opd.run.events import EVENTS_FILE, MILESTONE

PATCHES = ("log_probs", "loopback", "packed_attention", "safe_loading", "warm_python", "weight_socket")
"""Patches of ours that stay on in verl's own run: without flash-attn its log-probs take a call for each token, and its
attention the square of a pack."""
MEMORY = "memory.csv"
TRAINER_MEMORY = "actor/perf/max_memory_allocated_gb"
GIB = 2**30
STUDENT_CACHE, TEACHER_CACHE = 18 * GIB, 4 * GIB
"""KV caches on a card of 80 GB that holds trainer, student and teacher of 1.7B and 8B."""
TEMPLATE = 16
"""Tokens of the chat template around a message, at most."""
_TRAINERS = {OURS: "benchmarks.clock", NATIVE: "benchmarks.gpu.native", NATIVE_POLL: "benchmarks.gpu.native_poll"}
_LOOP = "capped_single_turn"
_FEW_PROCESSES = (
    "actor_rollout_ref.rollout.agent.num_workers=2",
    "reward.num_workers=1",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=2",
)
"""verl's defaults are 8 each. Every process imports torch, verl and vLLM before the run starts."""


def run(case: GpuCase, folder: Path, made: Path, seconds: float) -> dict[str, Any]:
    """Run a case.

    Args:
        folder: of this run, empty.
        made: where the models are, or are made.
        seconds: the run is ended after them.

    Returns:
        ``steps``, also those of a run that was ended; ``launch``: seconds from the start of the run to the end of its
        first step, unless that waited for a gate; ``milestones``: seconds from the start, of ours; ``error`` if the run
        did not reach its end.
    """
    folder = folder.absolute()
    models = model_folders(case.model, made.absolute())
    began = time.monotonic()
    run_forked(functools.partial(make_models, case.model, made.absolute()), folder / "models.log", seconds)
    left = seconds - (time.monotonic() - began)
    started, log, error = time.time(), folder / "steps.jsonl", ""
    if warm_python.is_asked(case.platform):
        warm_up("benchmarks.clock", log=folder.with_name("import.log"), platform=case.platform)
    try:
        run_forked(functools.partial(_train, case, folder, models, log), folder / LOG, left, stall=left)
    except RunFailed as failed:
        error = str(failed)
    lines = list(read_lines(log))
    if len(lines) < case.steps and not error:
        error = f"{len(lines)} steps in the log, not {case.steps}"
    found: dict[str, Any] = {"steps": _steps(case, models, folder, lines) if lines else []}
    if lines and GATE not in os.environ:
        found["launch"] = round(lines[0]["data"][WALL] - started, 1)
    if milestones := _milestones(folder / "run", started):
        found["milestones"] = milestones
    return {**found, "error": error} if error else found


def _train(case: GpuCase, folder: Path, models: dict[str, Path], log: Path) -> None:
    """In a fork: the work of the training command, with a clock in the trainer's process."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ[LOG_PATH] = str(log)
    vocabulary = ModelShape.from_folder(models["student"]).vocab_size - BEYOND
    write_words(case.words, vocabulary, folder)
    from prefix_opd import launch

    config = launch.prepare(overrides(case, folder, models), case.system in VERLS_OWN)
    with cards.memory_in(folder / MEMORY):
        launch.run(config, _TRAINERS[case.system])


def overrides(case: GpuCase, folder: Path, models: dict[str, Path]) -> list[str]:
    """The overrides of the run's command. Writes the agent loop of verl's own run into ``folder``."""
    prompt = case.words + TEMPLATE
    caps = [case.cap_of(step) for step in range(1, case.steps + 1)]
    found = [
        *of_every_run(case, folder),
        f"platform={case.platform}",
        f"data.train_files={folder / TRAIN}",
        f"data.val_files={folder / TRAIN}",
        f"data.max_prompt_length={prompt}",
        *of_lengths(prompt, case.longest),
        *of_models(models),
        "prefix_opd.rollout.seeded=null",
        "prefix_opd.watchers.uniform_teacher.action=warn",  # a teacher with random weights knows nothing
        *([f"prefix_opd.teacher.placement={SHARED}"] if case.placement == SHARED else []),
        *(_of_gpus(case) if case.platform == GPU else [f"ray_kwargs.ray_init.num_gpus={case.cards}"]),
        *case.given,
    ]
    if case.system in VERLS_OWN:
        loops = "actor_rollout_ref.rollout.agent."
        return [
            *found,
            *(*VERLS_TRAINER, *VERLS_LOSS, patches_off(PATCHES)),
            f"{loops}agent_loop_config_path={_agent_loops(caps, folder)}",
            f"{loops}default_agent_loop={_LOOP}",
        ]
    return [*found, *of_schedule(case)]


def _agent_loops(caps: Sequence[int], folder: Path) -> Path:
    """Write verl's file of agent loops. ``caps``: of each step."""
    path = folder / "agent_loops.yaml"
    # that module imports verl, which a process that forks runs must not
    path.write_text(
        json.dumps([{"name": _LOOP, "_target_": "benchmarks.gpu.agent_loop.CappedAgentLoop", "caps": caps}])
    )
    return path


def _of_gpus(case: GpuCase) -> list[str]:
    student, teacher = "actor_rollout_ref.rollout.", "distillation.teacher_models.teacher_model.inference."
    return [
        "~actor_rollout_ref.model.override_config.attn_implementation",  # the fastest that is installed
        "actor_rollout_ref.model.enable_gradient_checkpointing=true",
        f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={case.micro_batch}",
        f"{student}max_num_seqs={case.sequences}",  # CUDA graphs for no larger batches
        f"{student}max_num_batched_tokens=8192",
        f"{teacher}max_num_seqs={case.sequences}",
        f"{teacher}enforce_eager=true",  # it only scores prompts, which no graph serves; its start is faster
        # a token that is scored needs two rows of fp32 logits
        f"{teacher}max_num_batched_tokens=4096",
        f"++{student}engine_kwargs.vllm.kv_cache_memory_bytes={STUDENT_CACHE}",
        f"++{teacher}engine_kwargs.vllm.kv_cache_memory_bytes={TEACHER_CACHE}",
        *_FEW_PROCESSES,
    ]


def _steps(case: GpuCase, models: dict[str, Path], folder: Path, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    peaks = cards.peaks(folder / MEMORY, [line["data"][WALL] for line in lines])
    if GATE in os.environ:  # the card holds other runs, too
        peaks = [None] * len(lines)
    return [
        {**step, "memory_gib": peak, "trainer_gib": line["data"].get(TRAINER_MEMORY)}
        for step, line, peak in zip(steps_of(case, models, lines), lines, peaks, strict=True)
    ]


def _milestones(run_folder: Path, started: float) -> dict[str, float]:
    events = [event for event in read_lines(run_folder / EVENTS_FILE) if event["kind"] == MILESTONE]
    return {event["text"]: round(event["time"] - started, 1) for event in events}
