"""A case as a run of verl: ours, or verl 0.9.1's own on-policy distillation trainer.

Both are the same command with other overrides. The native run has verl's trainer (`trainer_mode=sync`: a pass for the
old log-probs, a look for finished rollouts every 2 s), its agent loop (which rewards every rollout) and its k1
policy-gradient loss. Platform, engines, models, prompts, batch, optimiser and cap are the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.cases import FULL, NATIVE, TINY, Case
from benchmarks.observe import Observer
from benchmarks.process import LOG, run_process
from benchmarks.steps import step_line

PHASES = {
    "gen": "rollout and teacher",
    "old_log_prob": "old log-probs",
    "adv": "advantage",
    "update_actor": "update",
    "update_weights": "weight sync",
}
"""verl's timers within a step, by the names that the table has for them."""

REST = "rest"

_NO_TOKEN = 1_000_000
"""An id beyond every vocabulary: ours insists on a stop token, and no response here may meet one."""

_NATIVE = (
    "trainer.v1.trainer_mode=sync",
    "actor_rollout_ref.rollout.agent.agent_loop_manager_class=null",
    # the loss's config class stays ours, verl's with a few fields more, which k1 does not read
    "distillation.distillation_loss.loss_mode=k1",
    "distillation.distillation_loss.use_policy_gradient=true",
)


def run_verl(case: Case, folder: Path, models: dict[str, Path], timeout: float) -> dict[str, Any]:
    """Run a case and read its steps, and what was observed if it is an observed one.

    Args:
        folder: of this run, empty.
        models: folders of student and teacher.
        timeout: seconds.

    Raises:
        RunFailed: the run did not end well.
    """
    log = folder / "steps.jsonl"
    command = [sys.executable, "-m", "recipe.prefix_opd.main_prefix_opd", *overrides(case, folder, models)]
    environment = {"VERL_FILE_LOGGER_PATH": str(log), "RAY_DEDUP_LOGS": "0", "HF_HUB_OFFLINE": "1"}
    if not case.observed:
        run_process(command, folder, environment, timeout)
        return {"steps": read_steps(case, models, log)}
    observer = Observer(log)
    run_process(command, folder, environment, timeout, watch=observer.watching)
    steps = read_steps(case, models, log)
    return {"steps": steps, **observer.found((folder / LOG).read_text(errors="replace"), steps[0]["seconds"])}


def overrides(case: Case, folder: Path, models: dict[str, Path]) -> list[str]:
    """What the run's command gets."""
    found = [
        "experiment=tiny/full",
        f"trainer.default_local_dir={folder / 'run'}",
        "trainer.logger=[file]",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        f"trainer.total_training_steps={case.steps}",
        f"trainer.n_gpus_per_node={case.ranks}",
        f"ray_kwargs.ray_init.num_gpus={case.ranks + 1}",
        f"data.train_batch_size={case.prompts}",
        f"actor_rollout_ref.rollout.n={case.rollouts}",
        "actor_rollout_ref.rollout.ignore_eos=true",
        f"prefix_opd.rollout.stop=[{_NO_TOKEN}]",
    ]
    if case.model != TINY:
        found += [
            f"actor_rollout_ref.model.path={models['student']}",
            f"distillation.teacher_models.teacher_model.model_path={models['teacher']}",
        ]
    if case.system == NATIVE:
        return [*found, f"data.max_response_length={case.caps[0]}", *_NATIVE]
    each = case.warm + case.measured
    steps = [[1 + i * each, cap] for i, cap in enumerate(case.caps)]
    return [
        *found,
        f"data.max_response_length={FULL}",
        "prefix_opd.schedule.name=steps",
        f"prefix_opd.schedule.steps={json.dumps(steps, separators=(',', ':'))}",
    ]


def read_steps(case: Case, models: dict[str, Path], log: Path) -> list[dict[str, Any]]:
    """The steps of verl's file logger. Raises ValueError if there are not as many as the case has."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    if len(lines) != case.steps:
        raise ValueError(f"{len(lines)} steps in the log, not {case.steps}")
    return [_step(case, models, line["step"], line["data"]) for line in lines]


def _step(case: Case, models: dict[str, Path], step: int, data: dict[str, float]) -> dict[str, Any]:
    seconds = data["timing_s/step"]
    phases = {name: data.get(f"timing_s/{timer}", 0.0) for timer, name in PHASES.items()}
    phases[REST] = seconds - sum(phases.values())
    tokens = data["response_length/mean"] * case.sequences
    return step_line(case, models, step, seconds, tokens, data["prompt_length/mean"], phases)
