"""The analyses as PNG. `prefix_opd.report.plots` draws the same for a browser: what is added here is added there."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from prefix_opd.analysis.compute import COST_LABELS, Compute
from prefix_opd.analysis.prefixes import Point, Prefixes
from prefix_opd.analysis.schedule import PHASES, Schedule
from prefix_opd.analysis.signal import VALUES, Signal
from prefix_opd.analysis.tables import advice
from prefix_opd.run.history import Evaluation

STYLES = {"all": "-", "cut": "--", "natural": ":", "probe": "-."}
COLOURS = ("#2f6fdf", "#d9622b", "#2a9d74", "#8e5cc2", "#b8862b", "#c2427a")


@contextmanager
def _figure(path: Path, columns: int = 1, rows: int = 1):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(6.2 * columns, 3.9 * rows), layout="constrained", squeeze=False)
    yield axes
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_signal(found: Signal, path: Path) -> Path:
    """Mean reverse KL by position, its magnitude and itself; one colour a step, one dash a group."""
    steps = sorted({curve.step for curve in found.curves})
    with _figure(path, columns=len(VALUES)) as axes:
        for axis, (value, label) in zip(axes[0], VALUES.items(), strict=True):
            for curve in found.curves:
                axis.plot(
                    found.middles(curve),
                    [getattr(one, value) for one in curve.bins],
                    STYLES[curve.group],
                    color=COLOURS[steps.index(curve.step) % len(COLOURS)],
                    marker=".",
                    label=curve.label,
                )
            axis.axhline(0, color="0.6", linewidth=0.8)
            axis.set_xlabel(f"position in the response (bins of {found.width} tokens)")
            axis.set_ylabel(label)
        axes[0][0].set_ylim(bottom=0)  # the magnitude's
        axes[0][0].set_title(f"{found.name}: signal by position")
        axes[0][0].legend(fontsize=7)
    return path


def draw_compute(found: Compute, path: Path) -> Path:
    """Accuracy against FLOP in both accountings, and against seconds."""
    with _figure(path, columns=len(COST_LABELS)) as axes:
        for axis, (kind, label) in zip(axes[0], COST_LABELS.items(), strict=True):
            for colour, (name, ones) in zip(_cycle(), found.evaluations.items(), strict=False):
                shares, costs = [one.accuracy for one in ones], [getattr(one, kind) for one in ones]
                bars = error_bars(ones)
                axis.errorbar(costs, shares, yerr=bars, marker="o", capsize=3, color=colour, label=name)
            axis.axhline(found.target, color="0.6", linewidth=0.8, linestyle="--", label=target_label(found))
            axis.set_xlabel(label)
            axis.set_ylabel("accuracy, uncapped, 95% interval")
            axis.set_ylim(0, 1)
            axis.legend(fontsize=8)
    return path


def draw_schedule(found: Schedule, path: Path) -> Path:
    """L and lengths, endings, and seconds by phase."""
    steps = [one.step for one in found.steps]
    with _figure(path, columns=3) as axes:
        length, ending, seconds = axes[0]
        length.step(steps, [one.cap for one in found.steps], where="mid", label="L", color=COLOURS[0])
        length.plot(steps, [one.mean_length for one in found.steps], label="mean length", color=COLOURS[1])
        length.set_ylabel("tokens")
        ending.plot(steps, [one.cut for one in found.steps], label="cut at L", color=COLOURS[0])
        ending.plot(steps, [one.natural for one in found.steps], label="ended by themselves", color=COLOURS[1])
        ending.set_ylabel("share of rollouts")
        ending.set_ylim(-0.02, 1.02)
        parts = [[one.seconds[phase] for one in found.steps] for phase in PHASES]
        seconds.stackplot(steps, parts, labels=[phase.replace("_", " ") for phase in PHASES], colors=COLOURS)
        seconds.set_ylabel("seconds of an update")
        for axis in axes[0]:
            axis.set_xlabel("update")
            axis.legend(fontsize=8)
        ending.set_title(found.name)
    return path


def draw_prefixes(found: Prefixes, path: Path) -> Path:
    """Accuracy by the length of the prefix that was given."""
    giver, receiver = ("teacher", "student") if found.kind == "teacher-prefix" else ("student", "teacher")
    with _figure(path) as axes:
        axis = axes[0][0]
        axis.errorbar(
            [one.length for one in found.points],
            [one.accuracy for one in found.points],
            yerr=error_bars(found.points),
            marker="o",
            capsize=3,
            color=COLOURS[0],
            label=f"{receiver} after the {giver}'s first L tokens",
        )
        axis.axhline(found.giver, color="0.5", linestyle="--", linewidth=0.9, label=f"{giver} alone")
        if found.chosen:
            axis.axvline(found.chosen, color=COLOURS[1], linewidth=1, label=f"L={found.chosen}")
        axis.set_xlabel("length of the prefix L (tokens)")
        axis.set_ylabel("accuracy, 95% interval")
        axis.set_ylim(0, 1)
        title = f"{found.problems} problems x {found.samples}"
        if found.kind == "student-prefix":
            title += "\n" + textwrap.fill(advice(found), 95)
        axis.set_title(title, fontsize=8)
        axis.legend(fontsize=8)
    return path


def error_bars(points: Sequence[Evaluation | Point]) -> tuple[list[float], list[float]]:
    """How far the intervals reach below and above; a rounding must not make it less than nothing."""
    below = [max(0.0, one.accuracy - one.interval[0]) for one in points]
    above = [max(0.0, one.interval[1] - one.accuracy) for one in points]
    return below, above


def target_label(found: Compute) -> str:
    """How a legend calls the line of the accuracy whose cost is told."""
    return f"target {found.target:.1%}"


def _cycle():
    while True:
        yield from COLOURS
