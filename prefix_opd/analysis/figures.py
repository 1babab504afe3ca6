"""The analyses as figures: plain values, which `draw` turns into PNG and `prefix_opd.report.plots` into Plotly."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prefix_opd.analysis.compute import COST_LABELS, Compute
from prefix_opd.analysis.prefixes import Point, Prefixes
from prefix_opd.analysis.schedule import PHASES, Schedule, Step
from prefix_opd.analysis.signal import Signal
from prefix_opd.analysis.tables import advice
from prefix_opd.run.history import Evaluation

COLOURS = ("#2f6fdf", "#d9622b", "#2a9d74", "#8e5cc2", "#b8862b", "#c2427a")
GREY = "gray"
DASHES = {"all": "solid", "cut": "dash", "natural": "dot", "probe": "dashdot"}


@dataclass(frozen=True)
class Line:
    """One curve of N points; all sequences are (N,)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: str = "solid"
    """solid, dash, dot or dashdot."""
    width: float = 2.0
    marks: bool = False
    """Whether each point has a mark."""
    bars: tuple[Sequence[float], Sequence[float]] | None = None
    """Lengths of the error bars below and above each point."""
    steps: str = ""
    """"mid": steps around each point; "post": steps after each point; "": straight lines."""
    right: bool = False
    texts: Sequence[str] = ()
    """Hover text of each point in a browser, formatted by ``hover``."""
    hover: str = ""


@dataclass(frozen=True)
class Panel:
    """An x axis with one or two y axes."""

    key: str
    """Name within a report."""
    x: str
    y: str
    lines: list[Line]
    is_share: bool = False
    """y ranges from 0 to 1."""
    right: str = ""
    """Label of the right axis; empty for none."""
    right_is_share: bool = True
    stacked: bool = False
    updates: int = 0
    """On the x axis; 0 if x is not in updates."""


@dataclass(frozen=True)
class Figure:
    """Panels side by side."""

    panels: list[Panel]
    title: str = ""


def signal_figure(found: Signal) -> Figure:
    """Mean |reverse KL| and mean reverse KL by position: one colour per step, one dash style per group."""
    steps = sorted({curve.step for curve in found.curves})
    panels = []
    for value, label in {"abs_mean": "mean |reverse KL| (nats)", "mean": "mean reverse KL (nats)"}.items():
        lines = [
            Line(
                name=f"step {curve.step}, {curve.group} (L={curve.prefix_length})",
                x=[one.first + found.width / 2 for one in curve.bins],
                y=[getattr(one, value) for one in curve.bins],
                colour=colour(steps.index(curve.step)),
                dash=DASHES[curve.group],
                marks=True,
                texts=[f"from position {one.first}: {one.tokens} tokens" for one in curve.bins],
                hover="%{text}<br>%{y:.3f} nats",
            )
            for curve in found.curves
        ]
        x = f"position in the response (bins of {found.width} tokens)"
        panels.append(Panel(f"signal-{value}", x, label, lines))
    return Figure(panels, f"{found.name}: signal by position")


def compute_figure(found: Compute) -> Figure:
    panels = []
    for kind, label in COST_LABELS.items():
        lines = [
            _evaluations(name, evaluations, [getattr(one, kind) for one in evaluations], colour(i))
            for i, (name, evaluations) in enumerate(found.evaluations.items())
        ]
        costs = [cost for line in lines for cost in line.x]
        lines.append(_level(f"target {found.target:.1%}", min(costs), max(costs), found.target))
        panels.append(Panel(f"compute-{kind}", label, "accuracy", lines, is_share=True))
    return Figure(panels, "accuracy, uncapped, 95% intervals")


def schedule_figure(found: Schedule) -> Figure:
    """L, lengths and endings; what decided about L, where it adapts; seconds by phase."""

    def curve(name: str, of: Callable[[Step], float | None], *look: str, **more: Any) -> Line:
        points = [(one.step, value) for one in found.steps if (value := of(one)) is not None]
        return Line(name, [step for step, _ in points], [value for _, value in points], *look, **more)

    lines = [
        curve("L", lambda one: one.prefix_length, colour(0), steps="mid"),
        curve("mean length", lambda one: one.mean_length, colour(1)),
        curve("cut at L (right)", lambda one: one.cut, colour(2), "dot", right=True),
        curve("natural end (right)", lambda one: one.natural, colour(3), "dot", right=True),
    ]
    decides = [
        curve("signal", lambda one: one.signal, colour(0), marks=True),
        curve("threshold", lambda one: one.threshold, GREY, "dash", width=1.5),
    ]
    phases = [
        curve(phase.replace("_", " "), lambda one, phase=phase: one.seconds[phase], colour(i), width=1)
        for i, phase in enumerate(PHASES)
    ]
    steps = len(found.steps)
    panels = [
        Panel("schedule", "update", "tokens", lines, right="share of rollouts", updates=steps),
        *([Panel("decides", "update", "signal of the schedule", decides, updates=steps)] if found.adapts else []),
        Panel("seconds", "update", "seconds", phases, stacked=True, updates=steps),
    ]
    return Figure(panels, found.name)


def prefixes_figure(found: Prefixes) -> Figure:
    giver, receiver = found.sides
    lengths, shares = [one.length for one in found.points], [one.accuracy for one in found.points]
    name = f"{receiver} after the {giver}'s first L tokens"
    lines = [
        Line(name, lengths, shares, colour(0), marks=True, bars=error_bars(found.points)),
        _level(f"{giver} alone", lengths[0], lengths[-1], found.giver),
    ]
    if found.chosen:
        lines.append(Line(f"L={found.chosen}", [found.chosen] * 2, [0, 1], colour(1), width=1.5))
    title = f"{found.problems} problems x {found.samples}"
    if found.kind == "student-prefix":
        title += "\n" + textwrap.fill(advice(found), 95)
    return Figure([Panel(found.kind, "length of the prefix L (tokens)", "accuracy", lines, is_share=True)], title)


def summary_figure(
    name: str, evaluations: Sequence[Evaluation], prefix_lengths: Sequence[tuple[int, int, float]]
) -> Figure:
    """Accuracy and L against training FLOP. ``prefix_lengths``: (step, L, FLOP so far) of each update."""
    flops, lengths = [spent for _, _, spent in prefix_lengths], [length for _, length, _ in prefix_lengths]
    lines = [
        Line("L (right)", flops, lengths, "0.7", steps="post", right=True),
        _evaluations("accuracy", evaluations, [one.flops for one in evaluations], colour(0)),
    ]
    x, y = "training FLOP (sampling, teacher, update)", "validation accuracy, uncapped"
    panel = Panel("summary", x, y, lines, is_share=True, right="prefix length L (tokens)", right_is_share=False)
    return Figure([panel], f"{name}: {len(prefix_lengths)} updates")


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def error_bars(points: Sequence[Evaluation | Point]) -> tuple[list[float], list[float]]:
    """Lengths of the error bars below and above each point, clipped at 0 because of rounding; 0 without an interval."""
    ends = [(one.accuracy, *(one.interval or (one.accuracy, one.accuracy))) for one in points]
    below = [max(0.0, accuracy - low) for accuracy, low, _ in ends]
    above = [max(0.0, high - accuracy) for accuracy, _, high in ends]
    return below, above


def _evaluations(name: str, evaluations: Sequence[Evaluation], costs: Sequence[float], of: str) -> Line:
    return Line(
        name=name,
        x=costs,
        y=[one.accuracy for one in evaluations],
        colour=of,
        marks=True,
        bars=error_bars(evaluations),
        texts=[f"step {one.step}" for one in evaluations],
        hover="%{text}: %{y:.1%}<br>%{x:.3g}",
    )


def _level(name: str, first: float, last: float, y: float) -> Line:
    return Line(name, [first, last], [y, y], GREY, "dash", width=1.5)
