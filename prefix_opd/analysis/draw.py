"""The analyses as PNG."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from prefix_opd.analysis.compute import Compute
from prefix_opd.analysis.prefixes import Prefixes
from prefix_opd.analysis.schedule import PHASES, Schedule
from prefix_opd.analysis.signal import Signal

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
    """Mean |reverse KL| by position; one colour a step, one dash a group."""
    steps = sorted({curve.step for curve in found.curves})
    with _figure(path) as axes:
        axis = axes[0][0]
        for curve in found.curves:
            middle = [one.first + found.width / 2 for one in curve.bins]
            axis.plot(
                middle,
                [one.abs_mean for one in curve.bins],
                STYLES[curve.group],
                color=COLOURS[steps.index(curve.step) % len(COLOURS)],
                marker=".",
                label=f"step {curve.step}, {curve.group} (L={curve.cap})",
            )
        axis.set_xlabel(f"position in the response (bins of {found.width} tokens)")
        axis.set_ylabel("mean |reverse KL| (nats)")
        axis.set_ylim(bottom=0)
        axis.set_title(f"{found.name}: signal by position")
        axis.legend(fontsize=7)
    return path


def draw_compute(found: Compute, path: Path) -> Path:
    """Accuracy against FLOP in both accountings, and against seconds."""
    labels = {"flops": "training FLOP, exact", "paper_flops": "training FLOP, the paper's count", "seconds": "seconds"}
    with _figure(path, columns=3) as axes:
        for axis, (kind, label) in zip(axes[0], labels.items(), strict=True):
            for colour, (name, ones) in zip(_cycle(), found.evaluations.items(), strict=False):
                shares = [one.accuracy for one in ones]
                below = [one.accuracy - one.interval[0] for one in ones]
                above = [one.interval[1] - one.accuracy for one in ones]
                costs = [getattr(one, kind) for one in ones]
                axis.errorbar(costs, shares, yerr=(below, above), marker="o", capsize=3, color=colour, label=name)
            axis.axhline(found.target, color="0.6", linewidth=0.8, linestyle="--")
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
        below = [one.accuracy - one.interval[0] for one in found.points]
        above = [one.interval[1] - one.accuracy for one in found.points]
        axis.errorbar(
            [one.length for one in found.points],
            [one.accuracy for one in found.points],
            yerr=(below, above),
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
        axis.set_title(f"{found.problems} problems x {found.samples}")
        axis.legend(fontsize=8)
    return path


def _cycle():
    while True:
        yield from COLOURS
