"""What a report says, gathered from run folders: plain values, no markup."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from prefix_opd.analysis.compute import Compute, check_comparable, check_flags, compute, labels
from prefix_opd.analysis.prefixes import KINDS, Point, Prefixes
from prefix_opd.analysis.schedule import Schedule, schedule
from prefix_opd.analysis.signal import Signal, signal
from prefix_opd.errors import UserError
from prefix_opd.history import Evaluation, History, read_finished
from prefix_opd.intervals import wilson
from prefix_opd.redaction import command_without_secrets, without_secrets
from prefix_opd.runfolder import COMMAND_FILE
from prefix_opd.runlog import read_lines
from prefix_opd.samples import Sample, read_samples
from prefix_opd.summary import summarise

SETTINGS = (
    "actor_rollout_ref.model.path",
    "distillation.teacher_models.teacher_model.model_path",
    "data.train_files",
    "data.val_files",
    "data.max_response_length",
    "data.train_batch_size",
    "data.seed",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.actor.optim.lr",
    "actor_rollout_ref.actor.loss_agg_mode",
    "distillation.distillation_loss.loss_mode",
    "prefix_opd.schedule",
    "prefix_opd.prompt.ending",
    "prefix_opd.rollout.stop",
    "prefix_opd.advantage",
    "prefix_opd.loss",
    "prefix_opd.weighting",
    "trainer.total_training_steps",
)
"""What decides a run; the whole config stands below it in the report."""
ANSWERS = 3
FULL_STRENGTH = 4.0
"""|reverse KL| in nats at which a token's background has its full colour."""


@dataclass(frozen=True)
class Token:
    """One token of a sample, ready to be coloured."""

    text: str
    kl: float
    log_p: float
    log_q: float

    @property
    def strength(self) -> float:
        """-1 (the teacher is far surer) to 1 (the student is)."""
        return max(-1.0, min(1.0, self.kl / FULL_STRENGTH))


@dataclass(frozen=True)
class ScoredAnswer:
    """One rollout, split where the cap stands."""

    step: int
    prompt: str
    cap: int
    ending: str
    before_cap: list[Token]
    after_cap: list[Token]


@dataclass(frozen=True)
class AnswerPair:
    """One validation problem, before and after."""

    question: str
    truth: str
    before: str
    before_right: bool
    after: str
    after_right: bool


@dataclass
class RunContent:
    """What a report says of one run."""

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
    scored: list[ScoredAnswer]
    answers: list[AnswerPair]
    missing: list[str] = field(default_factory=list)
    """A sentence for each thing that the folder does not have."""

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
    # also of runs that were never validated, which the comparison of accuracies leaves out
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
        missing.append(f"No plot of the signal by position: the run {error.rule}.")
    prefixes = _prefixes(history.folder)
    if not prefixes:
        missing.append("No plot of accuracy by prefix: `prefix-opd analyze teacher-prefix` has not been run for it.")
    if not history.evaluations:
        missing.append("No accuracies: the run was never validated.")
    scored = _scored(list(read_samples(history.folder)))
    if not scored:
        missing.append("No answers token by token: the run recorded none (samples.jsonl).")
    plain = without_secrets(OmegaConf.to_container(history.config, resolve=False))
    return RunContent(
        name=name,
        folder=str(history.folder),
        claim=_claim(history),
        settings=_settings(plain),
        config=OmegaConf.to_yaml(OmegaConf.create(plain)),
        commands=_commands(history.folder),
        evaluations=history.evaluations,
        teacher=_teacher(history.folder),
        schedule=schedule(history),
        signal=signals,
        prefixes=prefixes,
        scored=scored,
        answers=_answers(history),
        missing=missing,
    )


def _claim(history: History) -> str:
    """The run in one line."""
    summary = summarise(history.folder)
    spent = f"{summary.steps} updates, {summary.flops:.2e} training FLOP"
    if summary.full_flops and not history.is_full_opd:
        spent += f", {summary.flops / summary.full_flops:.0%} of what the same updates cost at full length (estimated)"
    if not history.evaluations:
        return f"{spent}; never validated"
    first, last = history.evaluations[0], history.evaluations[-1]
    low, high = last.interval
    after = f"{last.accuracy:.1%} ({low:.1%} to {high:.1%})"
    return f"from {first.accuracy:.1%} to {after} with {spent}" if last.step > first.step else f"{after} with {spent}"


def _settings(plain: dict[str, Any]) -> dict[str, str]:
    config = OmegaConf.create(plain)
    found: dict[str, str] = {}
    for key in SETTINGS:
        value = OmegaConf.select(config, key)
        if OmegaConf.is_config(value):
            parts = {name: part for name, part in OmegaConf.to_container(value).items() if part not in (None, [])}
            found[key] = ", ".join(f"{name}={part}" for name, part in parts.items()) or "none"
        elif value is not None:
            found[key] = str(value)
    return found


def _commands(folder: Path) -> list[str]:
    path = folder / COMMAND_FILE
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    kept = [shlex.join(command_without_secrets(shlex.split(line))) for line in lines if line.strip()]
    return list(dict.fromkeys(kept))


def _teacher(folder: Path) -> tuple[float, int] | None:
    """What `prefix-opd quickstart` measured."""
    path = folder / "teacher.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    return found["accuracy"], found["samples"]


def _prefixes(folder: Path) -> list[Prefixes]:
    """What `prefix-opd analyze teacher-prefix` and `student-prefix` left in the run's folder."""
    found = []
    for kind in KINDS:
        path = folder / "analysis" / f"{kind}.json"
        if path.is_file():
            content = json.loads(path.read_text())
            found.append(Prefixes(**{**content, "points": [Point(**point) for point in content["points"]]}))
    return found


def _scored(samples: Sequence[Sample]) -> list[ScoredAnswer]:
    """The first and the last recorded step; the probe's answers where there are any, for no cap ends them."""
    probed = [sample for sample in samples if sample.kind == "probe"]
    kept = probed or samples
    steps = sorted({sample.step for sample in kept})
    chosen = [steps[0], steps[-1]] if len(steps) > 1 else steps
    return [
        _scored_answer(sample)
        for step in chosen
        for sample in [sample for sample in kept if sample.step == step][: ANSWERS - 1]
    ]


def _scored_answer(sample: Sample) -> ScoredAnswer:
    tokens = [
        Token(text, log_p - log_q, log_p, log_q)
        for text, log_p, log_q in zip(sample.tokens, sample.log_p, sample.log_q, strict=True)
    ]
    cap = sample.cap
    return ScoredAnswer(sample.step, sample.prompt, cap, sample.ending, tokens[:cap], tokens[cap:])


def _answers(history: History) -> list[AnswerPair]:
    """The same validation problems before and after; a change from wrong to right first, then what is left."""
    if len(history.evaluations) < 2:
        return []
    first, last = (
        {line["input"]: line for line in read_lines(history.folder / "validation" / f"{one.step}.jsonl")}
        for one in (history.evaluations[0], history.evaluations[-1])
    )
    pairs = [
        AnswerPair(
            question=question,
            truth=str(before.get("gts")),
            before=before["output"],
            before_right=before["score"] > 0.5,
            after=last[question]["output"],
            after_right=last[question]["score"] > 0.5,
        )
        for question, before in first.items()
        if question in last
    ]
    # one of each kind, so that the choice does not flatter the run
    kinds = {(pair.before_right, pair.after_right): pair for pair in reversed(pairs)}
    order = [(False, True), (False, False), (True, True), (True, False)]
    return [kinds[kind] for kind in order if kind in kinds]
