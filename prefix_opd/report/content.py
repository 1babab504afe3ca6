"""The content of a report as plain values, read from run folders."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from prefix_opd.analysis.compute import Compute, check_comparable, check_flags, compute, labels
from prefix_opd.analysis.prefixes import KINDS, Prefixes
from prefix_opd.analysis.schedule import Schedule, schedule
from prefix_opd.analysis.signal import Signal, signal
from prefix_opd.base.errors import UserError
from prefix_opd.base.intervals import wilson
from prefix_opd.base.redaction import command_without_secrets, without_secrets
from prefix_opd.config.keys import TEACHER_KEY
from prefix_opd.config.lora import MODEL
from prefix_opd.config.teachers import teachers
from prefix_opd.method import names
from prefix_opd.report.answers import AnswerPair, ScoredPrompt, answer_pairs, scored
from prefix_opd.report.summary import TeacherRow, summarise, teacher_rows
from prefix_opd.run.folder import COMMAND_FILE, VERSIONS_FILE
from prefix_opd.run.history import Evaluation, History, read_finished
from prefix_opd.run.samples import SAMPLES_FILE, read_samples

LORA_SETTINGS = tuple(f"{MODEL}.{name}" for name in ("lora_rank", "lora_alpha", "target_modules", "lora_adapter_path"))
"""Shown of a LoRA student alone."""
SETTINGS = (
    "actor_rollout_ref.model.path",
    *LORA_SETTINGS,
    TEACHER_KEY,
    "data.train_files",
    "data.val_files",
    "data.max_response_length",
    "data.train_batch_size",
    "data.seed",
    "data.val_max_samples",
    "actor_rollout_ref.rollout.agent.default_agent_loop",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.rollout.seed",
    "actor_rollout_ref.rollout.val_kwargs.temperature",
    "actor_rollout_ref.rollout.val_kwargs.n",
    "actor_rollout_ref.actor.optim.lr",
    "actor_rollout_ref.actor.loss_agg_mode",
    "distillation.distillation_loss.loss_mode",
    "prefix_opd.schedule",
    "prefix_opd.prompt.thinking",
    "prefix_opd.prompt.ending",
    "prefix_opd.teacher_prompt",
    "prefix_opd.rollout.stop",
    "prefix_opd.rollout.tool_tokens",
    "prefix_opd.rollout.seeded",
    "prefix_opd.advantage",
    "prefix_opd.loss",
    "prefix_opd.weighting",
    "prefix_opd.probe",
    "trainer.total_training_steps",
)
"""The main settings. The report shows the whole config below them."""
VERSIONS = {VERSIONS_FILE: ("prefix_opd", "verl", "git_commit"), "record.json": ("commit",)}
"""Optional file with a run's versions -> names that are read from it."""


@dataclass
class RunContent:
    """The content for one run."""

    name: str
    folder: str
    claim: str
    settings: dict[str, str]
    config: str
    commands: list[str]
    evaluations: list[Evaluation]
    teacher: tuple[float, int] | None
    schedule: Schedule
    signal: Signal | None
    prefixes: list[Prefixes]
    teachers: list[TeacherRow]
    """Of a run with several teachers."""
    tail: list[tuple[int, float]]
    """(update, mean |reverse KL| beyond L at its probe / at the first probe)."""
    tail_warning: float
    scored: list[ScoredPrompt]
    answers: list[AnswerPair]
    missing: list[str] = field(default_factory=list)
    """A sentence about each missing part."""

    @property
    def moments(self) -> tuple[str, str]:
        """Times of the two ``answers`` of a pair."""
        return when(self.evaluations[0].step), when(self.evaluations[-1].step)

    @property
    def tail_warned(self) -> list[int]:
        """The updates whose ratio is above the threshold."""
        return [step for step, ratio in self.tail if ratio > self.tail_warning]

    @property
    def teacher_interval(self) -> tuple[float, float] | None:
        return wilson(*self.teacher) if self.teacher else None


@dataclass(frozen=True)
class Content:
    """The whole report."""

    runs: list[RunContent]
    compute: Compute | None


def gather(folders: Sequence[Path], target: float | None = None, reference: str | None = None) -> Content:
    """Read the folders.

    Raises:
        UserError: a folder without a finished run, or runs that cannot be compared.
    """
    histories = [read_finished(folder) for folder in folders]
    names = labels(histories)
    # `compute` checks the validated runs only
    check_flags(histories, names, target, reference)
    check_comparable(histories)
    evaluated = {name: one for name, one in zip(names, histories, strict=True) if one.evaluations}
    found = compute(list(evaluated.values()), target, reference, list(evaluated)) if evaluated else None
    return Content([_run(one, name) for one, name in zip(histories, names, strict=True)], found)


def _run(history: History, name: str) -> RunContent:
    missing: list[str] = []
    signals = None
    try:
        signals = signal(history)
    except UserError as error:
        missing.append(f"No plot of reverse KL by position: the run {error.rule}.")
    prefixes = _prefixes(history.folder)
    if not prefixes:
        missing.append("No plot of accuracy by prefix: run `prefix-opd analyze teacher-prefix` first.")
    if not history.evaluations:
        missing.append("No accuracies: the run was never validated.")
    with _reading(history.folder / SAMPLES_FILE):
        found = scored(list(read_samples(history.folder)))
    if not found:
        missing.append("No answers token by token: the run recorded no samples (samples.jsonl).")
    plain = without_secrets(OmegaConf.to_container(history.config, resolve=False))
    return RunContent(
        name=name,
        folder=str(history.folder),
        claim=_claim(history),
        settings={**_settings(plain), **_versions(history.folder)},
        config=OmegaConf.to_yaml(OmegaConf.create(plain)),
        commands=_commands(history.folder),
        evaluations=history.evaluations,
        teacher=_teacher(history.folder),
        schedule=schedule(history),
        signal=signals,
        prefixes=prefixes,
        teachers=teacher_rows(history),
        tail=[(line["step"], line[names.TAIL_RATIO]) for line in history.updates if names.TAIL_RATIO in line],
        tail_warning=float(history.config.prefix_opd.probe.tail_warning),
        scored=found,
        answers=answer_pairs(history),
        missing=missing,
    )


def _claim(history: History) -> str:
    """A summary of the run in one line."""
    summary = summarise(history.folder)
    spent = f"{summary.steps} updates{f' of {summary.lora}' if summary.lora else ''}, {summary.flops:.2e} training FLOP"
    if summary.full_flops and not history.is_full_opd:
        spent += f", {summary.flops / summary.full_flops:.0%} of the same updates at full length (estimated)"
    if not history.evaluations:
        return f"{spent}; never validated"
    first, last = history.evaluations[0], history.evaluations[-1]
    low, high = last.interval
    after = f"{last.accuracy:.1%} ({low:.1%} to {high:.1%})"
    if last.step == first.step:
        return f"{after} {when(last.step).lower()}; {spent}"
    if first.step == 0:
        return f"from {first.accuracy:.1%} to {after} with {spent}"
    return f"{first.accuracy:.1%} {when(first.step).lower()}, {after} {when(last.step).lower()}; {spent}"


def when(step: int) -> str:
    """The time of an evaluation in words."""
    return "Before training" if step == 0 else f"After step {step}"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors from the content of a file into a UserError of one line."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            str(path),
            f"was written by another version or program ({type(error).__name__}: {str(error)[:200]})",
            "move it out of the run's folder",
        ) from None


def _settings(plain: dict[str, Any]) -> dict[str, str]:
    config = OmegaConf.create(plain)
    found: dict[str, str] = {}
    unread = () if OmegaConf.select(config, f"{MODEL}.lora_rank") else LORA_SETTINGS
    if len(teachers(config)) > 1:  # the report has a table of them
        unread += (TEACHER_KEY,)
    for key in SETTINGS:
        value = None if key in unread else OmegaConf.select(config, key)
        if OmegaConf.is_list(value):
            found[key] = ", ".join(map(str, value))
        elif OmegaConf.is_config(value):
            parts = {name: part for name, part in OmegaConf.to_container(value).items() if part not in (None, [])}
            found[key] = ", ".join(f"{name}={part}" for name, part in parts.items()) or "none"
        elif value is not None:
            found[key] = str(value)
    return found


def _commands(folder: Path) -> list[str]:
    path = folder / COMMAND_FILE
    kept: dict[str, None] = {}
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        try:
            words = shlex.split(line)
        except ValueError:  # an incomplete line of a killed run
            words = line.split()
        if words:
            kept[shlex.join(command_without_secrets(words))] = None
    return list(kept)


def _versions(folder: Path) -> dict[str, str]:
    found = {}
    for file, keys in VERSIONS.items():
        if (folder / file).is_file():
            with _reading(folder / file):
                recorded = json.loads((folder / file).read_text())
                found.update({name: str(recorded[name]) for name in keys if recorded.get(name)})
    return found


def _teacher(folder: Path) -> tuple[float, int] | None:
    """(accuracy, graded answers) of the teacher, as `prefix-opd quickstart` measured them."""
    path = folder / "teacher.json"
    if not path.is_file():
        return None
    with _reading(path):
        found = json.loads(path.read_text())
        accuracy, samples = float(found["accuracy"]), int(found["samples"])
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy={accuracy}")
    return accuracy, samples


def _prefixes(folder: Path) -> list[Prefixes]:
    """Results of `prefix-opd analyze teacher-prefix` and `student-prefix` in the run's folder."""
    found = []
    for kind in KINDS:
        path = folder / "analysis" / f"{kind}.json"
        if path.is_file():
            with _reading(path):
                one = Prefixes.from_dict(json.loads(path.read_text()))
                if one.kind != kind or not one.points:
                    raise ValueError(f"kind={one.kind} with {len(one.points)} points")
                found.append(one)
    return found
