"""The content of a report as plain values, read from run folders."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf

from prefix_opd.analysis.compute import Compute, compute, labels
from prefix_opd.analysis.prefixes import KINDS, Prefixes
from prefix_opd.analysis.schedule import Schedule, schedule
from prefix_opd.analysis.signal import Signal, signal
from prefix_opd.base.errors import UserError
from prefix_opd.base.intervals import wilson
from prefix_opd.base.redaction import command_without_secrets, without_secrets
from prefix_opd.base.terminal import between
from prefix_opd.config.keys import TEACHER_KEY
from prefix_opd.config.lora import MODEL
from prefix_opd.config.teachers import teachers
from prefix_opd.method import names
from prefix_opd.report.answers import AnswerPair, ScoredPrompt, answer_pairs, scored
from prefix_opd.report.summary import TeacherRow, summarise, teacher_rows
from prefix_opd.run.folder import COMMAND_FILE, VERSIONS_FILE
from prefix_opd.run.history import Evaluation, History, read_finished
from prefix_opd.run.samples import SAMPLES_FILE, read_samples

T = TypeVar("T")
LORA_SETTINGS = tuple(f"{MODEL}.{name}" for name in ("lora_rank", "lora_alpha", "target_modules", "lora_adapter_path"))
"""Shown only for a LoRA student."""
SETTINGS = (
    "actor_rollout_ref.model.path",
    *LORA_SETTINGS,
    TEACHER_KEY,
    *("data.train_files", "data.val_files", "data.max_response_length", "data.train_batch_size", "data.seed"),
    *("data.val_max_samples", "actor_rollout_ref.rollout.agent.default_agent_loop", "actor_rollout_ref.rollout.n"),
    *("actor_rollout_ref.rollout.temperature", "actor_rollout_ref.rollout.seed"),
    *("actor_rollout_ref.rollout.val_kwargs.temperature", "actor_rollout_ref.rollout.val_kwargs.n"),
    *("actor_rollout_ref.actor.optim.lr", "actor_rollout_ref.actor.loss_agg_mode"),
    *("distillation.distillation_loss.loss_mode", "prefix_opd.schedule"),
    *("prefix_opd.prompt.thinking", "prefix_opd.prompt.ending", "prefix_opd.teacher_prompt"),
    *("prefix_opd.rollout.stop", "prefix_opd.rollout.tool_tokens", "prefix_opd.rollout.seeded"),
    *("prefix_opd.advantage", "prefix_opd.loss", "prefix_opd.weighting", "prefix_opd.probe"),
    "trainer.total_training_steps",
)
"""The main settings. The report shows the whole config below them."""
VERSIONS = {VERSIONS_FILE: ("prefix_opd", "verl", "git_commit"), "record.json": ("commit",)}
"""Optional file with a run's versions -> names that are read from it."""


@dataclass
class RunContent:
    name: str
    folder: str
    claim: str
    settings: dict[str, str]
    config: str
    commands: list[str]
    evaluations: list[Evaluation]
    teacher: tuple[float, int] | None
    """(accuracy, graded answers), as `prefix-opd quickstart` measured them."""
    schedule: Schedule
    signal: Signal | None
    prefixes: list[Prefixes]
    teachers: list[TeacherRow]
    """Empty for a run with one teacher."""
    tail: list[tuple[int, float]]
    """(update, mean |reverse KL| beyond L at its probe / at the first probe)."""
    tail_warning: float
    scored: list[ScoredPrompt]
    answers: list[AnswerPair]
    missing: list[str]
    """A sentence about each missing part."""

    @property
    def moments(self) -> tuple[str, str]:
        """Times of the two ``answers`` of a pair."""
        return when(self.evaluations[0].step), when(self.evaluations[-1].step)

    @property
    def tail_warned(self) -> list[int]:
        return [step for step, ratio in self.tail if ratio > self.tail_warning]

    @property
    def teacher_interval(self) -> tuple[float, float] | None:
        return wilson(*self.teacher) if self.teacher else None


@dataclass(frozen=True)
class Content:
    runs: list[RunContent]
    compute: Compute | None


def gather(folders: Sequence[Path], target: float | None = None, reference: str | None = None) -> Content:
    """Read the folders. Raises UserError for one without a finished run, and for runs that cannot be compared."""
    histories = [read_finished(folder) for folder in folders]
    found = compute(histories, target, reference, skip=True)
    runs = [_run(one, name) for one, name in zip(histories, labels(histories), strict=True)]
    return Content(runs, found if found.evaluations else None)


def _run(history: History, name: str) -> RunContent:
    folder, missing, signals = history.folder, [], None
    try:
        signals = signal(history)
    except UserError as error:
        missing.append(f"No plot of reverse KL by position: the run {error.rule}.")
    read = (_parsed(folder / "analysis" / f"{kind}.json", partial(_prefixes, kind=kind)) for kind in KINDS)
    prefixes = [one for one in read if one]
    if not prefixes:
        missing.append("No plot of accuracy by prefix: run `prefix-opd analyze teacher-prefix` first.")
    if not history.evaluations:
        missing.append("No accuracies: the run has no complete validation.")
    with _reading(folder / SAMPLES_FILE):
        found = scored(list(read_samples(folder)))
    if not found:
        missing.append("No answers token by token: the run recorded no samples (samples.jsonl).")
    plain = without_secrets(OmegaConf.to_container(history.config, resolve=False))
    return RunContent(
        name=name,
        folder=str(folder),
        claim=_claim(history),
        settings={**_settings(plain), **_versions(folder)},
        config=OmegaConf.to_yaml(OmegaConf.create(plain)),
        commands=_commands(folder),
        evaluations=history.evaluations,
        teacher=_parsed(folder / "teacher.json", _teacher),
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
    summary = summarise(history.folder)
    spent = f"{summary.steps} updates{f' of {summary.lora}' if summary.lora else ''}, {summary.flops:.2e} training FLOP"
    if summary.full_flops and not history.is_full_opd:
        spent += f", {summary.flops / summary.full_flops:.0%} of the same updates at full length (estimated)"
    if not history.evaluations:
        return f"{spent}; no complete validation"
    first, last = history.evaluations[0], history.evaluations[-1]
    after = f"{last.accuracy:.1%}" + (f" ({between(last.interval)})" if last.interval else "")
    if last.step == first.step:
        return f"{after} {when(last.step).lower()}; {spent}"
    if first.step == 0:
        return f"from {first.accuracy:.1%} to {after} with {spent}"
    return f"{first.accuracy:.1%} {when(first.step).lower()}, {after} {when(last.step).lower()}; {spent}"


def when(step: int) -> str:
    return "Before training" if step == 0 else f"After step {step}"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors from the content of a file into a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        rule = f"was written by another version or program ({type(error).__name__}: {str(error)[:200]})"
        raise UserError(str(path), rule, "move it out of the run's folder") from None


def _settings(plain: dict[str, Any]) -> dict[str, str]:
    config, found = OmegaConf.create(plain), {}
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
    kept = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        try:
            words = shlex.split(line)
        except ValueError:  # an incomplete line of a killed run
            words = line.split()
        kept += [shlex.join(command_without_secrets(words))] if words else []
    return list(dict.fromkeys(kept))


def _parsed(path: Path, parse: Callable[[Any], T]) -> T | None:
    """What ``parse`` makes of a JSON file; None without the file."""
    with _reading(path):
        return parse(json.loads(path.read_text())) if path.is_file() else None


def _versions(folder: Path) -> dict[str, str]:
    found = {}
    for file, keys in VERSIONS.items():
        recorded = _parsed(folder / file, lambda read, keys=keys: {name: read.get(name) for name in keys})
        found |= {name: str(value) for name, value in (recorded or {}).items() if value}
    return found


def _teacher(read: Any) -> tuple[float, int]:
    accuracy, samples = float(read["accuracy"]), int(read["samples"])
    if not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy={accuracy}")
    return accuracy, samples


def _prefixes(read: Any, kind: str) -> Prefixes:
    found = Prefixes.from_dict(read)
    if found.kind != kind or not found.points:
        raise ValueError(f"kind={found.kind} with {len(found.points)} points")
    return found
