"""What came out of a run: one table and one picture, from its folder alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.base.intervals import wilson
from prefix_opd.config.keys import STUDENT_KEY, TEACHER_KEY
from prefix_opd.config.models import Model
from prefix_opd.method.flops import exact_flops
from prefix_opd.run.history import Evaluation, read_history

PICTURE = "accuracy_and_prefix.png"


@dataclass(frozen=True)
class Summary:
    """The whole run."""

    name: str
    folder: Path
    steps: int
    evaluations: list[Evaluation]
    prefix_lengths: list[tuple[int, int, float]]
    """(step, L, exact FLOP so far)."""
    flops: float
    full_flops: float | None
    """Estimate: the same updates on rollouts as long as the uncapped validation answers were."""
    paper_flops: float
    training_seconds: float
    wall_seconds: float
    """From the trainer's construction to the last step."""
    warnings: int = 0
    """Of the watchers (`prefix_opd.verl_plugin.trainer.watchers`), in all steps."""
    thrown_away: int = 0
    """Batches that were sampled again."""


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
        prefix_lengths=[
            (row["step"], int(row["prefix_opd/prefix_length"]), row["prefix_opd/flops_exact/so_far"]) for row in rows
        ],
        flops=last.get("prefix_opd/flops_exact/so_far", 0.0),
        full_flops=_full_flops(config, rows, evaluations),
        paper_flops=last.get("prefix_opd/flops_paper/so_far", 0.0),
        training_seconds=sum(row["prefix_opd/seconds/step"] for row in rows),
        wall_seconds=last.get("prefix_opd/seconds/since_start", 0.0),
        warnings=int(sum(row.get("prefix_opd/watch/warned", 0) for row in rows)),
        thrown_away=int(sum(row.get("prefix_opd/watch/thrown_away", 0) for row in rows)),
    )


def _full_flops(config: DictConfig, rows: list[dict], evaluations: list[Evaluation]) -> float | None:
    measured = [(e.step, e.mean_length) for e in evaluations if e.mean_length is not None]
    if not rows or not measured:
        return None
    try:
        student, teacher = (Model(key, OmegaConf.select(config, key)).shape for key in (STUDENT_KEY, TEACHER_KEY))
    except UserError:  # a folder that was copied here without its models
        return None
    rollouts = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    total = 0.0
    for row in rows:
        prompts = (row["prefix_opd/tokens/scored"] - row["prefix_opd/tokens/generated"]) / rollouts
        response = min(_interpolate(measured, row["step"]), config.data.max_response_length)
        total += exact_flops(student, teacher, [prompts] * rollouts, [response] * rollouts).total
    return total


def _interpolate(points: list[tuple[int, float]], step: int) -> float:
    """Linear between validations, constant beyond the first and the last."""
    before = max((p for p in points if p[0] <= step), default=points[0])
    after = min((p for p in points if p[0] >= step), default=points[-1])
    if before[0] == after[0]:
        return before[1]
    return before[1] + (after[1] - before[1]) * (step - before[0]) / (after[0] - before[0])


def render(summary: Summary, teacher: tuple[float, int] | None = None):
    """A rich table. ``teacher`` is the teacher's accuracy and the number of its graded answers, where known."""
    from rich.table import Table

    table = Table(title=f"{summary.name}: {summary.steps} updates", title_justify="left")
    for heading in ("", "accuracy", "95% interval", "mean tokens", "training s", "FLOP"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    if teacher:
        low, high = wilson(*teacher)
        table.add_row("teacher", f"{teacher[0]:.1%}", f"{low:.1%} to {high:.1%}", "", "", "")
    if summary.evaluations:
        first, last = summary.evaluations[0], summary.evaluations[-1]
        rows = [("student before", first)] if first.step == 0 else []
        rows += [("student after", last)] if last.step else []
        for name, found in rows:
            low, high = found.interval
            table.add_row(
                name,
                f"{found.accuracy:.1%}",
                f"{low:.1%} to {high:.1%}",
                f"{found.mean_length:.0f}" if found.mean_length is not None else "",
                f"{found.seconds:.0f}",
                f"{found.flops:.2e}",
            )
    if summary.full_flops:
        share = summary.flops / summary.full_flops
        table.add_row("full OPD, the same updates", "", "", "", "", f"{summary.full_flops:.2e}")
        table.add_row("spent of that", "", "", "", "", f"{share:.0%}")
    table.caption = (
        "FLOP: sampling, teacher and update, prompts counted. Full OPD is estimated from the lengths of the uncapped "
        "validation answers, not run."
    )
    if summary.warnings or summary.thrown_away:
        table.caption += (
            f"\nWatchers: {summary.warnings} warnings, {summary.thrown_away} batches thrown away and sampled again; "
            "train.log has them."
        )
    return table


def draw(summary: Summary, path: Path) -> Path:
    """Accuracy and L against training FLOP, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, accuracy = plt.subplots(figsize=(7, 4.2), layout="constrained")
    length = accuracy.twinx()
    length.step(*zip(*[(f, prefix) for _, prefix, f in summary.prefix_lengths], strict=True), where="post", color="0.7")
    length.set_ylabel("prefix cap L (tokens)", color="0.45")
    length.set_ylim(bottom=0)
    flops, shares = zip(*[(e.flops, e.accuracy) for e in summary.evaluations], strict=True)
    intervals = [e.interval for e in summary.evaluations]
    below = [share - low for share, (low, _) in zip(shares, intervals, strict=True)]
    above = [high - share for share, (_, high) in zip(shares, intervals, strict=True)]
    accuracy.errorbar(flops, shares, yerr=(below, above), marker="o", capsize=3, color="tab:blue")
    accuracy.set_xlabel("training FLOP (sampling, teacher, update)")
    accuracy.set_ylabel("validation accuracy, uncapped", color="tab:blue")
    accuracy.set_ylim(0, 1)
    accuracy.set_zorder(length.get_zorder() + 1)
    accuracy.patch.set_visible(False)
    accuracy.set_title(f"{summary.name}: {summary.steps} updates")
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
