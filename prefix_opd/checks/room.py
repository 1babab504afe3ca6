"""Checks of context length, memory, disk, and settings that must fit each other."""

from __future__ import annotations

import shutil
from pathlib import Path

from prefix_opd.checks.cards import smallest_card
from prefix_opd.checks.case import Case
from prefix_opd.checks.finding import Finding, fail, ok, warn
from prefix_opd.checks.objective import check_loss, check_probe
from prefix_opd.checks.preflight import check_folder, check_sampling
from prefix_opd.checks.sizes import check_batches, check_context, check_lengths
from prefix_opd.config.lora import student_shape
from prefix_opd.cost.arithmetic import GIB, trainer_values
from prefix_opd.cost.memory import shortages
from prefix_opd.cost.models import sized
from prefix_opd.cost.plan import plan

ADAM_COPIES = 2
"""AdamW's two moments per weight."""


def tokens(case: Case) -> Finding:
    check_lengths(case.config, case.settings)
    for model in (case.student, case.teacher):
        check_context(case.config, case.settings, model)
    needed = case.config.data.max_prompt_length + case.config.actor_rollout_ref.rollout.response_length + 1
    return ok(f"prompt + response + 1 = {needed} tokens fit both engines and both models")


def sampling(case: Case) -> Finding:
    check_sampling(case.config, case.settings)
    return ok(f"temperature {case.config.actor_rollout_ref.rollout.temperature:g}, with the sampler's log-probs")


def batches(case: Case) -> Finding:
    check_batches(case.config)
    rollouts = case.config.data.train_batch_size * case.config.actor_rollout_ref.rollout.n
    return ok(f"{rollouts} rollouts a step divide among the ranks")


def loss(case: Case) -> Finding:
    check_loss(case.config, case.settings)
    return ok(f"{case.settings.loss.label}: it reads every setting that is given")


def probe(case: Case) -> Finding:
    check_probe(case.config, case.settings)
    every = case.settings.probe.every
    return ok(f"before the first update and after every {every}" if every else "off")


def folder(case: Case) -> Finding:
    check_folder(case.config)
    return ok(f"{case.config.trainer.default_local_dir}, resume_mode {case.config.trainer.resume_mode}")


def memory(case: Case) -> Finding:
    """Memory, calculated rather than measured: see `prefix_opd.cost.arithmetic`."""
    on_a_gpu = case.config.platform != "cpu"
    found = plan(case.config, smallest_card() if on_a_gpu else None)
    name, student = found.assumptions["accelerator"], found.memory_gib["student"]
    told = ", ".join(f"{phase} {sum(parts.values()):.1f}" for phase, parts in found.memory_gib["phases"].items())
    reason = f"GiB at the peak of a {name} with {student['device']:.3g}: {told}"
    missing = shortages(found.memory_gib)
    return warn(reason, missing[0].fix) if missing else ok(reason)


def disk(case: Case) -> Finding:
    """Disk space of the checkpoints: what is trained and its AdamW moments, times the number kept."""
    check_folder(case.config)
    trainer, keep = case.config.trainer, case.settings.checkpoint
    if trainer.save_freq < 1:
        return ok("no checkpoints are written (trainer.save_freq)")
    one = _checkpoint_gib(case)
    saves = -(-trainer.total_training_steps // trainer.save_freq)
    beside = keep.keep_best + 1  # the best ones, and a new one that is complete before an old one is deleted
    most = saves if keep.keep_last is None else min(saves, keep.keep_last + beside)
    place = Path(trainer.default_local_dir).expanduser().absolute()
    free = shutil.disk_usage(next(there for there in (place, *place.parents) if there.exists())).free / GIB
    reason = f"{most} checkpoints of {one:.3g} GiB each; {free:.3g} GiB are free"
    if free >= one * most:
        return ok(reason)
    if (room := int(free / one) - beside) > 0:
        return warn(reason, f"set prefix_opd.checkpoint.keep_last={room}")
    return (fail if free < one else warn)(reason, "free some, or set trainer.default_local_dir elsewhere")


def _checkpoint_gib(case: Case) -> float:
    actor = case.config.actor_rollout_ref.actor
    contents, shape = actor.checkpoint.save_contents, student_shape(case.config, case.student.shape)
    model = "model" in contents
    frozen = model and not actor.checkpoint.save_lora_only
    each_value = 4 if actor.fsdp_config.model_dtype in ("fp32", "float32") else 2
    parameters = sized(case.config, case.student.key).parameters
    copies = model + ADAM_COPIES * ("optimizer" in contents)
    return trainer_values(shape, parameters, copies, frozen) * each_value / GIB
