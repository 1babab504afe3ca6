"""One picture a group, where a picture says more than its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.cases import Case
from benchmarks.statistics import fit_line, spread
from benchmarks.store import Result
from benchmarks.table import NAMES, Steps, measured_steps

Draw = Callable[[Axes, Sequence[Case], Steps], None]


def write_plots(results: Sequence[Result], groups: dict[str, tuple[Case, ...]], out: Path) -> dict[str, Path]:
    """Write the pictures of the groups that have measurements; returns them by group."""
    steps = measured_steps(results)
    out.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, draw in PICTURES.items():
        if not any((case, cap) in steps for case in groups.get(name, ()) for cap in case.caps):
            continue
        figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
        draw(axes, groups[name], steps)
        axes.grid(alpha=0.3)
        written[name] = out / f"{name}.png"
        figure.savefig(written[name], dpi=150)
        plt.close(figure)
    return written


def _seconds_by_cap(axes: Axes, cases: Sequence[Case], steps: Steps) -> None:
    for system in dict.fromkeys(case.system for case in cases):
        found = [(case, cap) for case in cases if case.system == system for cap in case.caps if (case, cap) in steps]
        if found:
            _points(axes, [cap for _, cap in found], [_seconds(steps[key]) for key in found], NAMES[system])
    axes.set(xlabel="cap, tokens", ylabel="seconds a step", xscale="log", yscale="log")
    axes.legend()


def _saving(axes: Axes, cases: Sequence[Case], steps: Steps) -> None:
    keys = [(case, cap) for case in cases for cap in case.caps if (case, cap) in steps]
    last = steps[keys[-1]]
    caps = [cap for _, cap in keys]
    full_seconds, full_flops = spread(_seconds(last)).median, spread([step["flops"] for step in last]).median
    _points(axes, caps, [[second / full_seconds for second in _seconds(steps[key])] for key in keys], "seconds")
    _points(axes, caps, [[step["flops"] / full_flops for step in steps[key]] for key in keys], "FLOP")
    axes.set(xlabel="cap, tokens", ylabel="share of the longest cap's", ylim=(0, None))
    axes.legend()


def _seconds_by_flops(axes: Axes, cases: Sequence[Case], steps: Steps) -> None:
    keys = [(case, cap) for case in cases for cap in case.caps if (case, cap) in steps]
    flops = [spread([step["flops"] for step in steps[key]]).median for key in keys]
    _points(axes, flops, [_seconds(steps[key]) for key in keys], "measured")
    every = [step for key in keys for step in steps[key]]
    if len({step["flops"] for step in every}) > 1:
        line = fit_line([step["flops"] for step in every], [step["seconds"] for step in every])
        ends = sorted(flops)
        x = [ends[0] * (ends[-1] / ends[0]) ** (i / 50) for i in range(51)]
        axes.plot(x, [line.fixed + line.slope * value for value in x], "--", label=f"{line.fixed:.2f} s + b · FLOP")
    axes.set(xlabel="FLOP a step", ylabel="seconds a step", xscale="log", yscale="log")
    axes.legend()


def _points(axes: Axes, x: Sequence[float], values: Sequence[Sequence[float]], label: str) -> None:
    spreads = [spread(each) for each in values]
    low = [one.median - one.low for one in spreads]
    high = [one.high - one.median for one in spreads]
    axes.errorbar(x, [one.median for one in spreads], yerr=(low, high), marker="o", capsize=3, label=label)


def _seconds(steps: Sequence[dict]) -> list[float]:
    return [step["seconds"] for step in steps]


PICTURES: dict[str, Draw] = {
    "native": _seconds_by_cap,
    "trl": _seconds_by_cap,
    "saving": _saving,
    "rollouts": _seconds_by_flops,
    "length": _seconds_by_flops,
    "size": _seconds_by_flops,
}
