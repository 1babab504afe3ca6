"""The analyses as Plotly figures: plain dicts, drawn by the page's own script in the colours of its theme.

They show what `prefix_opd.analysis.draw` puts into PNG files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefix_opd.analysis.compute import COST_LABELS, Compute
from prefix_opd.analysis.draw import COLOURS, error_bars, target_label
from prefix_opd.analysis.prefixes import Point, Prefixes
from prefix_opd.analysis.schedule import PHASES, Schedule
from prefix_opd.analysis.signal import VALUES, Signal
from prefix_opd.run.history import Evaluation

SHARE = {"range": [0, 1], "tickformat": ".0%"}
DASHES = {"all": "solid", "cut": "dash", "natural": "dot", "probe": "dashdot"}


def signal_figure(found: Signal, value: str) -> dict[str, Any]:
    """One of `VALUES` by position."""
    steps = sorted({curve.step for curve in found.curves})
    traces = [
        {
            "x": found.middles(curve),
            "y": [getattr(one, value) for one in curve.bins],
            "text": [f"from position {one.first}: {one.tokens} tokens" for one in curve.bins],
            "name": curve.label,
            "mode": "lines+markers",
            "line": {"color": _colour(steps.index(curve.step)), "dash": DASHES[curve.group]},
            "hovertemplate": "%{text}<br>%{y:.3f} nats",
        }
        for curve in found.curves
    ]
    return _figure(traces, f"position in the response (bins of {found.width} tokens)", VALUES[value])


def compute_figure(found: Compute, kind: str) -> dict[str, Any]:
    """Accuracy against one kind of cost."""
    traces: list[dict[str, Any]] = [
        {
            "x": [getattr(one, kind) for one in evaluations],
            "y": [one.accuracy for one in evaluations],
            "error_y": _error_bars(evaluations),
            "text": [f"step {one.step}" for one in evaluations],
            "name": name,
            "mode": "lines+markers",
            "line": {"color": _colour(i)},
            "hovertemplate": "%{text}: %{y:.1%}<br>%{x:.3g}",
        }
        for i, (name, evaluations) in enumerate(found.evaluations.items())
    ]
    costs = [cost for trace in traces for cost in trace["x"]]
    traces.append(_line([min(costs), max(costs)], [found.target] * 2, target_label(found), "gray", "dash"))
    return _figure(traces, COST_LABELS[kind], "accuracy", {"xaxis": {"exponentformat": "e"}, "yaxis": SHARE})


def schedule_figure(found: Schedule) -> dict[str, Any]:
    """L and the mean length of a rollout; on the right the shares that were cut and that ended by themselves."""
    steps = [one.step for one in found.steps]
    traces = [
        {"y": [one.cap for one in found.steps], "name": "L", "line": {"shape": "hvh", "color": _colour(0)}},
        {"y": [one.mean_length for one in found.steps], "name": "mean length", "line": {"color": _colour(1)}},
    ]
    for i, (share, name) in enumerate({"cut": "cut at L (right)", "natural": "ended by themselves (right)"}.items(), 2):
        line = {"color": _colour(i), "dash": "dot"}
        traces.append({"y": [getattr(one, share) for one in found.steps], "name": name, "yaxis": "y2", "line": line})
    for trace in traces:
        trace.update(x=steps, mode="lines")
    right = {
        "automargin": True,
        "overlaying": "y",
        "side": "right",
        "range": [0, 1.02],
        "tickformat": ".0%",
        "tickmode": "array",
        "tickvals": [0, 0.25, 0.5, 0.75, 1],
        "showgrid": False,
    }
    return _figure(traces, "update", "tokens", {"xaxis": _whole(found), "yaxis2": right})


def seconds_figure(found: Schedule) -> dict[str, Any]:
    """Seconds of an update by phase, stacked."""
    traces = [
        {
            "x": [one.step for one in found.steps],
            "y": [one.seconds[phase] for one in found.steps],
            "name": phase.replace("_", " "),
            "mode": "lines",
            "stackgroup": "one",
            "line": {"color": _colour(i), "width": 1},
        }
        for i, phase in enumerate(PHASES)
    ]
    return _figure(traces, "update", "seconds", {"xaxis": _whole(found)})


def prefixes_figure(found: Prefixes) -> dict[str, Any]:
    """Accuracy by the length of the prefix that was given, and the L to choose."""
    giver, receiver = ("teacher", "student") if found.kind == "teacher-prefix" else ("student", "teacher")
    lengths = [one.length for one in found.points]
    traces = [
        {
            "x": lengths,
            "y": [one.accuracy for one in found.points],
            "error_y": _error_bars(found.points),
            "name": f"{receiver} after the {giver}'s first L tokens",
            "mode": "lines+markers",
            "line": {"color": _colour(0)},
        },
        _line([lengths[0], lengths[-1]], [found.giver] * 2, f"{giver} alone", "gray", "dash"),
    ]
    if found.chosen:
        traces.append(_line([found.chosen] * 2, [0, 1], f"L={found.chosen}", _colour(1), "solid"))
    return _figure(traces, "length of the prefix L (tokens)", "accuracy", {"yaxis": SHARE})


def _line(x: list[float], y: list[float], name: str, colour: str, dash: str) -> dict[str, Any]:
    return {"x": x, "y": y, "name": name, "mode": "lines", "line": {"color": colour, "dash": dash, "width": 1.5}}


def _error_bars(points: Sequence[Evaluation | Point]) -> dict[str, Any]:
    below, above = error_bars(points)
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1}


def _figure(traces: list[dict[str, Any]], x: str, y: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": x}, "automargin": True, "nticks": 7},
        "yaxis": {"title": {"text": y}, "automargin": True, "rangemode": "tozero"},
        # below everything, over its whole height: the page's script makes the room
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "maxheight": 2000},
        "margin": {"l": 10, "r": 16, "t": 18, "b": 10},
        "hovermode": "closest",
    }
    for axis, settings in (more or {}).items():
        layout[axis] = {**layout.get(axis, {}), **settings}
    return {"data": [{"type": "scatter", **trace} for trace in traces], "layout": layout}


def _whole(found: Schedule) -> dict[str, Any]:
    """Ticks at whole updates."""
    return {"dtick": max(1, len(found.steps) // 6)}


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]
