"""The analyses as Plotly figures: plain dicts, drawn by the page's own script in the colours of its theme."""

from __future__ import annotations

from typing import Any

from prefix_opd.analysis.compute import Compute
from prefix_opd.analysis.draw import COLOURS
from prefix_opd.analysis.prefixes import Prefixes
from prefix_opd.analysis.schedule import PHASES, Schedule
from prefix_opd.analysis.signal import Signal

SHARE = {"range": [0, 1], "tickformat": ".0%"}
DASHES = {"all": "solid", "cut": "dash", "natural": "dot", "probe": "dashdot"}


def signal_figure(found: Signal) -> dict[str, Any]:
    """Mean |reverse KL| by position."""
    steps = sorted({curve.step for curve in found.curves})
    traces = [
        {
            "x": [one.first for one in curve.bins],
            "y": [one.abs_mean for one in curve.bins],
            "text": [f"{one.tokens} tokens, mean {one.mean:+.3f}" for one in curve.bins],
            "name": f"step {curve.step}, {curve.group}",
            "mode": "lines+markers",
            "line": {"color": _colour(steps.index(curve.step)), "dash": DASHES[curve.group]},
            "hovertemplate": "from position %{x}: %{y:.3f} nats<br>%{text}",
        }
        for curve in found.curves
    ]
    return _figure(traces, f"position in the response (bins of {found.width})", "mean |reverse KL| (nats)")


def compute_figure(found: Compute, kind: str, label: str) -> dict[str, Any]:
    """Accuracy against one kind of cost."""
    traces = [
        {
            "x": [getattr(one, kind) for one in evaluations],
            "y": [one.accuracy for one in evaluations],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [one.interval[1] - one.accuracy for one in evaluations],
                "arrayminus": [one.accuracy - one.interval[0] for one in evaluations],
                "thickness": 1,
            },
            "text": [f"step {one.step}" for one in evaluations],
            "name": name,
            "mode": "lines+markers",
            "line": {"color": _colour(i)},
            "hovertemplate": "%{text}: %{y:.1%}<br>%{x:.3g}",
        }
        for i, (name, evaluations) in enumerate(found.evaluations.items())
    ]
    return _figure(traces, label, "accuracy", {"xaxis": {"exponentformat": "e"}, "yaxis": SHARE})


def schedule_figure(found: Schedule) -> dict[str, Any]:
    """L and the mean length of a rollout; the share that was cut on the right."""
    steps = [one.step for one in found.steps]
    traces = [
        {"y": [one.cap for one in found.steps], "name": "L", "line": {"shape": "hvh", "color": _colour(0)}},
        {"y": [one.mean_length for one in found.steps], "name": "mean length", "line": {"color": _colour(1)}},
        {
            "y": [one.cut for one in found.steps],
            "name": "cut at L (right)",
            "yaxis": "y2",
            "line": {"color": _colour(2), "dash": "dot"},
        },
    ]
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
    """Accuracy by the length of the prefix that was given."""
    giver, receiver = ("teacher", "student") if found.kind == "teacher-prefix" else ("student", "teacher")
    lengths = [one.length for one in found.points]
    traces = [
        {
            "x": lengths,
            "y": [one.accuracy for one in found.points],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [one.interval[1] - one.accuracy for one in found.points],
                "arrayminus": [one.accuracy - one.interval[0] for one in found.points],
                "thickness": 1,
            },
            "name": f"{receiver} after the {giver}'s first L tokens",
            "mode": "lines+markers",
            "line": {"color": _colour(0)},
        },
        {
            "x": [lengths[0], lengths[-1]],
            "y": [found.giver] * 2,
            "name": f"{giver} alone",
            "mode": "lines",
            "line": {"color": _colour(1), "dash": "dash"},
        },
    ]
    return _figure(traces, "length of the prefix L (tokens)", "accuracy", {"yaxis": SHARE})


def _figure(traces: list[dict[str, Any]], x: str, y: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": x}, "automargin": True, "nticks": 7},
        "yaxis": {"title": {"text": y}, "automargin": True, "rangemode": "tozero"},
        "legend": {"orientation": "h", "y": -0.28, "yanchor": "top"},
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
