"""Convert a panel of a figure to Plotly. The page's script draws it in the colours of the theme."""

from __future__ import annotations

from typing import Any

from prefix_opd.analysis.figures import Line, Panel

SHAPES = {"mid": "hvh", "post": "hv", "": "linear"}
LEGEND = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "maxheight": 2000}
"""At the bottom of the plot. The page's script makes room for it."""
RIGHT_SHARE = {
    "automargin": True,
    "overlaying": "y",
    "side": "right",
    "range": [0, 1.02],
    "tickformat": ".0%",
    "tickmode": "array",
    "tickvals": [0, 0.25, 0.5, 0.75, 1],
    "showgrid": False,
}


def plotly(panel: Panel) -> dict[str, Any]:
    """Plotly's ``data`` and ``layout``."""
    x: dict[str, Any] = {"title": {"text": panel.x}, "automargin": True, "nticks": 7}
    y: dict[str, Any] = {"title": {"text": panel.y}, "automargin": True, "rangemode": "tozero"}
    if panel.updates:
        x["dtick"] = max(1, panel.updates // 6)
    elif panel.key.startswith("compute"):
        x["exponentformat"] = "e"
    if panel.is_share:
        y |= {"range": [0, 1], "tickformat": ".0%"}
    layout = {
        "xaxis": x,
        "yaxis": y,
        "legend": LEGEND,
        "margin": {"l": 10, "r": 16, "t": 18, "b": 10},
        "hovermode": "closest",
    }
    if panel.right:
        layout["yaxis2"] = RIGHT_SHARE
    return {"data": [_trace(line, panel.stacked) for line in panel.lines], "layout": layout}


def _trace(line: Line, stacked: bool) -> dict[str, Any]:
    look = {"color": line.colour, "dash": line.dash, "width": line.width, "shape": SHAPES[line.steps]}
    mode = "lines+markers" if line.marks else "lines"
    trace: dict[str, Any] = {"type": "scatter", "x": line.x, "y": line.y, "name": line.name, "mode": mode, "line": look}
    if line.bars:
        below, above = line.bars
        trace["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1}
    if line.texts:
        trace |= {"text": line.texts, "hovertemplate": line.hover}
    if line.right:
        trace["yaxis"] = "y2"
    if stacked:
        trace["stackgroup"] = "one"
    return trace
