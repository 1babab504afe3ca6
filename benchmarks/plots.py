"""A picture for some of the groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.rows import Row, Steps, at_common_caps, every_row, fit, measured_steps, realised, side_by_side, spread
from benchmarks.words import NAMES
from harness.page import picture
from harness.store import Row as Result

Draw = Callable[[Any, Sequence[Case], Steps], None]
"""Draws the steps of some cases on matplotlib axes."""


def write_plots(results: Sequence[Result], groups: dict[str, tuple[Case, ...]], out: Path) -> dict[str, Path]:
    """Write the pictures of the groups that have measurements; returns them by group."""
    steps = measured_steps(results)
    written = {}
    for name, draw in PICTURES.items():
        rows = at_common_caps if draw is _seconds_by_flops else every_row
        if len(rows(groups.get(name, ()), steps)) < 2:  # a point alone is in the table
            continue
        written[name] = out / f"{name}.png"
        with picture(written[name]) as axes:
            draw(axes, groups[name], steps)
            axes.grid(alpha=0.3)
    return written


def _seconds_by_cap(axes, cases: Sequence[Case], steps: Steps) -> None:
    rows = side_by_side(cases, steps)
    for system, model in dict.fromkeys((row.case.system, row.case.model) for row in rows):
        found = [row for row in rows if (row.case.system, row.case.model) == (system, model)]
        _points(axes, [row.cap for row in found], [_seconds(row) for row in found], f"{NAMES[system]}, {model}")
    axes.set(xlabel="cap, tokens", ylabel="seconds a step", xscale="log", yscale="log")
    axes.legend(fontsize="small")


def _saving(axes, cases: Sequence[Case], steps: Steps) -> None:
    for case in cases:
        found = realised(case, steps)
        if not found:
            continue
        caps, full = [one.row.cap for one in found], found[-1].row
        shares = [[second / full.seconds.median for second in _seconds(one.row)] for one in found]
        _points(axes, caps, shares, f"seconds, {case.model}")
        axes.plot(
            caps, [one.flops for one in found], "--", color=axes.lines[-1].get_color(), label=f"FLOP, {case.model}"
        )
    axes.set(xlabel="cap, tokens", ylabel="share of the longest cap's", ylim=(0, None))
    axes.legend(fontsize="small")


def _seconds_by_flops(axes, cases: Sequence[Case], steps: Steps) -> None:
    rows = at_common_caps(cases, steps)
    _points(axes, [row.flops for row in rows], [_seconds(row) for row in rows], "measured")
    if line := fit(rows, "flops"):
        ends = sorted(row.flops for row in rows)
        x = [ends[0] * (ends[-1] / ends[0]) ** (i / 50) for i in range(51)]
        axes.plot(x, [line.fixed + line.slope * value for value in x], "--", label=f"{line.fixed:.2f} s + b · FLOP")
    axes.set(xlabel="FLOP a step", ylabel="seconds a step", xscale="log", yscale="log")
    axes.legend()


def _points(axes, x: Sequence[float], values: Sequence[Sequence[float]], label: str) -> None:
    spreads = [spread(each) for each in values]
    low = [one.median - one.low for one in spreads]
    high = [one.high - one.median for one in spreads]
    axes.errorbar(x, [one.median for one in spreads], yerr=(low, high), marker="o", capsize=3, label=label)


def _seconds(row: Row) -> list[float]:
    return [step["seconds"] for step in row.steps]


PICTURES: dict[str, Draw] = {
    "native": _seconds_by_cap,
    "trl": _seconds_by_cap,
    "saving": _saving,
    "rollouts": _seconds_by_flops,
    "length": _seconds_by_flops,
    "size": _seconds_by_flops,
}
