"""The figures of a reproduction, as PNG, from its records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.page import picture
from prefix_opd.analysis.draw import draw as draw_figure
from prefix_opd.analysis.figures import prefixes_figure
from prefix_opd.analysis.prefixes import KINDS
from reproduction.arms import ARMS, BY_NAME, PREFIX
from reproduction.findings import Evidence
from reproduction.record import Record

SIGNAL, TAIL, SCHEDULE = "signal.png", "tail.png", "schedule.png"
COMPUTE, OTHERS = "compute.png", "compute_others.png"
CLAIM = ("full", "prefix_3", "prefix_12", "prefix_24", "schedule")
"""The arms of the paper's figure 4."""
BESIDE = ("full", "prefix_24", "schedule")
"""The reference arms of all other arms."""
TAIL_ARMS = ("full", "prefix_3", "prefix_24", "schedule")
POSITION, KL = "position in the answer (tokens)", "mean |reverse KL| of a token (nats)"
PREFIXES = {kind: f"{kind.replace('-', '_')}.png" for kind in KINDS}


def draw_all(records: Sequence[Record], evidence: Evidence, folder: Path) -> list[str]:
    """Draw the figures that the records allow. Returns the names of the written files."""
    probed = [arm for arm in TAIL_ARMS if any(record.probe for record in records if record.arm == arm)]
    others = [arm.name for arm in ARMS if arm.name in evidence.curves and arm.name not in CLAIM]
    scheduled = any(record.prefix_lengths for record in records)
    drawn = []
    for kind, found in evidence.prefixes.items():
        drawn.append(draw_figure(prefixes_figure(found), folder / PREFIXES[kind]).name)
    for name, there, draw, *arguments in (
        (SIGNAL, evidence.full, _signal, evidence.full),
        (TAIL, probed, _tail, records, probed),
        (COMPUTE, True, _compute, evidence, CLAIM),
        (OTHERS, others, _compute, evidence, [*BESIDE, *others]),
        (SCHEDULE, scheduled, _schedule, records, evidence),
    ):
        if there:
            with picture(folder / name, 7, 4.2) as axes:
                draw(axes, *arguments)
            drawn.append(name)
    return drawn


def _signal(axes, full: Sequence[Record]) -> None:
    """Figure 2: mean |reverse KL| by position, mean of the seeds, at three updates of full OPD."""
    updates = full[0].updates
    for step in sorted({1, max(1, updates // 2), updates}):
        axes.plot(*_mean([record.signal[step] for record in full]), marker=".", label=f"update {step}")
    axes.axvspan(0, PREFIX, color="0.92", zorder=0)
    title = f"Signal by position, full OPD, {len(full)} seeds (grey: the first {PREFIX} tokens)"
    axes.set(xlabel=POSITION, ylabel=KL, ylim=(0, None), title=title)
    axes.legend()


def _mean(bins: Sequence[Mapping[int, float]]) -> tuple[list[int], list[float]]:
    """The positions that all seeds have, and the mean over the seeds at each."""
    positions = sorted(set.intersection(*(set(one) for one in bins)))
    return positions, [sum(one[position] for one in bins) / len(bins) for position in positions]


def _tail(axes, records: Sequence[Record], arms: Sequence[str]) -> None:
    """Figure 5: |reverse KL| of uncapped rollouts before the first and the last update, mean of the seeds."""
    for i, arm in enumerate(arms):
        probes = [record.probe for record in records if record.arm == arm and record.probe]
        for pick, style in ((min, ":"), (max, "-")):
            if pick is min and i:
                continue  # all arms have the same student before the first update
            label = "before training" if pick is min else f"{BY_NAME[arm].label}, update {max(probes[0])}"
            colour = "0.5" if pick is min else f"C{i}"
            axes.plot(*_mean([probe[pick(probe)] for probe in probes]), style, color=colour, label=label)
    title = "What becomes of the tail: rollouts that no cap ends, never trained on"
    axes.set(xlabel=POSITION, ylabel=KL, yscale="log", title=title)
    axes.set_ylim(top=1e3)  # room for the legend
    axes.legend(fontsize=7)


def _compute(axes, evidence: Evidence, arms: Sequence[str]) -> None:
    """Figure 4: accuracy against exact training FLOP. The band spans the lowest to the highest seed."""
    for i, arm in enumerate(arm for arm in arms if arm in evidence.curves):
        places, color = evidence.curves[arm], f"C{i}"
        flops = [place.flops for place in places]
        means = [place.accuracy for place in places]
        axes.plot(flops, means, marker="o", markersize=4, color=color, label=BY_NAME[arm].label)
        low, high = ([pick(place.accuracies) for place in places] for pick in (min, max))
        axes.fill_between(flops, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="training FLOP (sampling, teacher, update)", ylabel="held-out accuracy, uncapped", ylim=(0, 1))
    axes.set_title("Accuracy against training FLOP (band: the seeds)")
    axes.legend(fontsize=7)


def _schedule(axes, records: Sequence[Record], evidence: Evidence) -> None:
    """L of each update, and the accuracy of the same arm there."""
    for i, name in enumerate(("schedule", "full", "prefix_24")):
        lengths = next((record.prefix_lengths for record in records if record.arm == name), ())
        if lengths:
            steps = range(1, len(lengths) + 1)
            axes.step(steps, lengths, where="mid", color=f"C{i}", alpha=0.5, label=f"L, {BY_NAME[name].label}")
    right = axes.twinx()
    for i, name in enumerate(("schedule", "full", "prefix_24")):
        places = evidence.curves.get(name, [])
        right.plot([place.step for place in places], [place.accuracy for place in places], marker="o", color=f"C{i}")
    right.set(ylim=(0, 1), ylabel="held-out accuracy (points)")
    axes.set(xlabel="update", ylabel="prefix cap L (tokens, steps)", ylim=(0, None))
    axes.set_title("Schedule: L and accuracy by update")
    axes.legend(loc="lower right", fontsize=7)
