"""The pictures of a reproduction, as PNG, from its records alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prefix_opd.analysis.draw import draw
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
"""What all other arms are compared with."""
TAIL_ARMS = ("full", "prefix_3", "prefix_24", "schedule")
PREFIXES = {kind: f"{kind.replace('-', '_')}.png" for kind in KINDS}


def draw_all(records: Sequence[Record], evidence: Evidence, folder: Path) -> list[str]:
    """Draw what the records hold; returns the names of the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if evidence.full:
        drawn.append(_save(folder / SIGNAL, lambda axes: _signal(axes, evidence.full)))
    if probed := [arm for arm in TAIL_ARMS if any(record.probe for record in records if record.arm == arm)]:
        drawn.append(_save(folder / TAIL, lambda axes: _tail(axes, records, probed)))
    drawn += [draw(prefixes_figure(found), folder / PREFIXES[kind]).name for kind, found in evidence.prefixes.items()]
    drawn.append(_save(folder / COMPUTE, lambda axes: _compute(axes, evidence, CLAIM)))
    if others := [arm.name for arm in ARMS if arm.name in evidence.curves and arm.name not in CLAIM]:
        drawn.append(_save(folder / OTHERS, lambda axes: _compute(axes, evidence, [*BESIDE, *others])))
    if any(record.prefix_lengths for record in records):
        drawn.append(_save(folder / SCHEDULE, lambda axes: _schedule(axes, records, evidence)))
    return drawn


def _signal(axes, full: Sequence[Record]) -> None:
    """Figure 2: mean |reverse KL| by position, mean of the seeds, at three moments of full OPD."""
    updates = full[0].updates
    for step in sorted({1, max(1, updates // 2), updates}):
        bins = [record.signal[step] for record in full]
        positions = sorted(set.intersection(*(set(one) for one in bins)))
        values = [sum(one[position] for one in bins) / len(bins) for position in positions]
        axes.plot(positions, values, marker=".", label=f"update {step}")
    axes.axvspan(0, PREFIX, color="0.92", zorder=0)
    axes.set_xlabel("position in the answer (tokens)")
    axes.set_ylabel("mean |reverse KL| of a token (nats)")
    axes.set_ylim(bottom=0)
    axes.set_title(f"Signal by position, full OPD, {len(full)} seeds (grey: the first {PREFIX} tokens)")
    axes.legend()


def _tail(axes, records: Sequence[Record], arms: Sequence[str]) -> None:
    """Figure 5: |reverse KL| of uncapped rollouts, before the first and before the last update, mean of the seeds."""
    for i, arm in enumerate(arms):
        probes = [record.probe for record in records if record.arm == arm and record.probe]
        for pick, style in ((min, ":"), (max, "-")):
            bins = [probe[pick(probe)] for probe in probes]
            positions = sorted(set.intersection(*(set(one) for one in bins)))
            values = [sum(one[position] for one in bins) / len(bins) for position in positions]
            if pick is min and i:
                continue  # before the first update all arms are one student
            label = "before training" if pick is min else f"{BY_NAME[arm].label}, update {max(probes[0])}"
            axes.plot(positions, values, style, color="0.5" if pick is min else f"C{i}", label=label)
    axes.set_xlabel("position in the answer (tokens)")
    axes.set_ylabel("mean |reverse KL| of a token (nats)")
    axes.set_yscale("log")
    axes.set_ylim(top=1e3)  # room for the legend
    axes.set_title("What becomes of the tail: rollouts that no cap ends, never trained on")
    axes.legend(fontsize=7)


def _compute(axes, evidence: Evidence, arms: Sequence[str]) -> None:
    """Figure 4: accuracy against exact training FLOP; band: lowest to highest seed."""
    for i, arm in enumerate(arm for arm in arms if arm in evidence.curves):
        places, color = evidence.curves[arm], f"C{i}"
        flops = [place.flops for place in places]
        axes.plot(
            flops,
            [place.mean for place in places],
            marker="o",
            markersize=4,
            color=color,
            label=BY_NAME[arm].label,
        )
        low, high = ([pick(place.accuracies) for place in places] for pick in (min, max))
        axes.fill_between(flops, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xlabel("training FLOP (sampling, teacher, update)")
    axes.set_ylabel("held-out accuracy, uncapped")
    axes.set_ylim(0, 1)
    axes.set_title("Accuracy against training FLOP (band: the seeds)")
    axes.legend(fontsize=7)


def _schedule(axes, records: Sequence[Record], evidence: Evidence) -> None:
    """L of each update, and the accuracy that the same arm had there."""
    for i, name in enumerate(("schedule", "full", "prefix_24")):
        lengths = next((record.prefix_lengths for record in records if record.arm == name), ())
        if lengths:
            steps = range(1, len(lengths) + 1)
            axes.step(steps, lengths, where="mid", color=f"C{i}", alpha=0.5, label=f"L, {BY_NAME[name].label}")
    right = axes.twinx()
    for i, name in enumerate(("schedule", "full", "prefix_24")):
        places = evidence.curves.get(name, [])
        right.plot([place.step for place in places], [place.mean for place in places], marker="o", color=f"C{i}")
    right.set_ylim(0, 1)
    right.set_ylabel("held-out accuracy (points)")
    axes.set_xlabel("update")
    axes.set_ylabel("prefix cap L (tokens, steps)")
    axes.set_ylim(bottom=0)
    axes.set_title("Schedule: L and accuracy by update")
    axes.legend(loc="lower right", fontsize=7)


def _save(path: Path, draw: Callable) -> str:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    draw(axes)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path.name
