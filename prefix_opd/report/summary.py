"""The summary of a run: a table and a picture, from its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from omegaconf import DictConfig, OmegaConf

from prefix_opd.analysis.draw import draw
from prefix_opd.analysis.figures import summary_figure
from prefix_opd.base.errors import UserError
from prefix_opd.base.intervals import wilson
from prefix_opd.base.terminal import between, table
from prefix_opd.config.keys import STUDENT_KEY
from prefix_opd.config.lora import Lora, student_shape
from prefix_opd.config.models import Model
from prefix_opd.config.teachers import teachers
from prefix_opd.method import names
from prefix_opd.method.flops import exact_flops
from prefix_opd.run.events import EVENTS_FILE, THROWN_AWAY, WARNING, count_by_step
from prefix_opd.run.folder import LOG_FILE
from prefix_opd.run.history import Evaluation, History, read_history

PICTURE = "accuracy_and_prefix.png"


@dataclass(frozen=True)
class Summary:
    name: str
    folder: Path
    steps: int
    evaluations: list[Evaluation]
    prefix_lengths: list[tuple[int, int, float]]
    """(step, L, cumulative FLOP)."""
    flops: float
    lora: str
    """The adapter that was trained; empty where all weights were."""
    full_flops: float | None
    """Estimated FLOP of the same updates on rollouts as long as the uncapped validation answers."""
    warnings: int
    thrown_away: int
    """Number of batches that were discarded and sampled again."""
    teachers: Sequence[TeacherRow]


@dataclass(frozen=True)
class TeacherRow:
    """What one of several teachers scored in a run."""

    source: str
    model: str
    tokens: float
    flops: float
    first: float | None
    """Mean |reverse KL| of a token in the first update with rollouts of this source, nats; none with top-k."""
    last: float | None


def teacher_rows(history: History) -> list[TeacherRow]:
    """One row per teacher; none where a run has one teacher for all rows."""
    named = {one.source: one for one in teachers(history.config) if one.source} if history.updates else {}
    lines = [names.of_teachers(line) for line in history.updates]
    found = []
    for source, one in named.items():
        own = [line[source] for line in lines if source in line]
        kl = [values["reverse_kl/abs_mean"] for values in own if "reverse_kl/abs_mean" in values]
        tokens, flops = (sum(values[name] for values in own) for name in ("tokens", "flops_exact"))
        found.append(TeacherRow(source, one.path, tokens, flops, *((kl[0], kl[-1]) if kl else (None, None))))
    return found


def summarise(folder: Path) -> Summary:
    """Read a run's folder. Raises UserError if there is no run in it."""
    history = read_history(folder)
    config, rows, evaluations = history.config, history.updates, history.evaluations
    last = rows[-1] if rows else {}
    return Summary(
        name=history.name,
        folder=folder,
        steps=len(rows),
        evaluations=evaluations,
        prefix_lengths=[(row["step"], int(row[names.PREFIX_LENGTH]), row[names.FLOPS]) for row in rows],
        flops=last.get(names.FLOPS, 0.0),
        lora=lora.label if (lora := Lora.of(config)) else "",
        full_flops=_full_flops(config, rows, evaluations),
        warnings=_count(history, WARNING, names.WARNED),
        thrown_away=_count(history, THROWN_AWAY, names.THROWN_AWAY),
        teachers=teacher_rows(history),
    )


def _count(history: History, kind: str, metric: str) -> int:
    """Total over steps of the larger count: earlier versions wrote no events, and metrics miss some events."""
    metrics = Counter({row["step"]: int(row.get(metric, 0)) for row in history.updates})
    return (metrics | count_by_step(history.folder)[kind]).total()


def _full_flops(config: DictConfig, rows: list[dict], evaluations: list[Evaluation]) -> float | None:
    measured = [one for one in evaluations if one.mean_length is not None]
    if not rows or not measured:
        return None
    steps, lengths = [one.step for one in measured], [one.mean_length for one in measured]
    try:
        student = student_shape(config, Model(STUDENT_KEY, OmegaConf.select(config, STUDENT_KEY)).shape)
        theirs = {one.source: Model(one.key, one.path).shape for one in teachers(config)}
    except UserError:  # the run's models are not on this machine
        return None
    rollouts = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    recomputed = OmegaConf.select(config, "prefix_opd.advantage.student_log_prob") == "recomputed"
    scored, total = _teacher_prompt(rows, rollouts), 0.0
    for row in rows:
        prompts = row.get(names.PROMPT_LENGTH, scored)  # missing in earlier versions: the teacher had the same
        # linear between validations, constant outside
        response = min(float(np.interp(row["step"], steps, lengths)), config.data.max_response_length)
        lengths_of = ([prompts], [response], recomputed, [scored])
        each = [exact_flops(student, teacher, *lengths_of).total for teacher in theirs.values()]
        of_teachers = names.of_teachers(row)
        shares = [of_teachers.get(source, {}).get("tokens", 0) for source in theirs] if of_teachers else None
        total += rollouts * float(np.average(each, weights=shares))
    return total


def _teacher_prompt(rows: list[dict], rollouts: int) -> float:
    """Mean length of the teacher's prompts, tokens. ``rollouts``: of an update.

    The token counts of an update include its discarded batches, so only updates without one are read where there are
    some. The teacher scores tool outputs, too.
    """
    calm = [row for row in rows if not row.get(names.THROWN_AWAY)] or rows
    found = (
        (row[names.TOKENS_SCORED] - row[names.TOKENS_GENERATED]) / rollouts / (1 + row.get(names.THROWN_AWAY, 0))
        - row.get(names.TOOL_TOKENS, 0)
        for row in calm
    )
    return fmean(found)


def render(summary: Summary, teacher: tuple[float, int] | None = None):
    """A rich table. ``teacher``: (accuracy, graded answers) of the teacher, if known."""
    made = table(
        f"{summary.name}: {summary.steps} updates" + (f", {summary.lora}" if summary.lora else ""),
        ("", "accuracy", "95% interval", "mean tokens", "training s", "FLOP"),
        no_wrap=True,
    )
    if teacher:
        made.add_row("teacher", f"{teacher[0]:.1%}", between(wilson(*teacher)), "", "", "")
    rows = [("student before", one) for one in summary.evaluations[:1] if one.step == 0]
    rows += [("student after", one) for one in summary.evaluations[-1:] if one.step]
    for name, found in rows:
        length = f"{found.mean_length:.0f}" if found.mean_length is not None else ""
        shown = (f"{found.accuracy:.1%}", between(found.interval), length)
        made.add_row(name, *shown, f"{found.seconds:.0f}", f"{found.flops:.2e}")
    if summary.full_flops:
        made.add_row("full OPD, the same updates", "", "", "", "", f"{summary.full_flops:.2e}")
        made.add_row("share of full OPD", "", "", "", "", f"{summary.flops / summary.full_flops:.0%}")
    made.caption = (
        "FLOP: sampling, teacher and update, with prompts. The FLOP of full OPD are estimated from the lengths of the "
        "uncapped validation answers."
    )
    for one in summary.teachers:
        told = "" if one.first is None else f", mean |reverse KL| {one.first:.3f} to {one.last:.3f} nats"
        made.caption += f"\nTeacher of {one.source}: {one.tokens:.3g} tokens, {one.flops:.2e} FLOP{told}."
    if summary.warnings or summary.thrown_away:
        made.caption += (
            f"\nWatchers: {summary.warnings} warnings, {summary.thrown_away} batches thrown away and sampled again; "
            f"see {EVENTS_FILE} and {LOG_FILE}."
        )
    return made


def picture(summary: Summary) -> Path:
    """Draw accuracy and L against training FLOP. Returns the PNG in the run's folder."""
    figure = summary_figure(summary.name, summary.evaluations, summary.prefix_lengths)
    return draw(figure, summary.folder / PICTURE)
