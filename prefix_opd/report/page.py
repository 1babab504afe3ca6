"""Write the report: an HTML file, and its plots as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefix_opd import __version__
from prefix_opd.analysis import figures
from prefix_opd.analysis.draw import draw
from prefix_opd.analysis.figures import Figure
from prefix_opd.analysis.tables import advice
from prefix_opd.base.files import check_out, write_whole
from prefix_opd.report.answers import FULL_STRENGTH
from prefix_opd.report.content import Content, gather
from prefix_opd.report.plots import plotly


def write_report(
    folders: Sequence[Path], out: Path | None = None, target: float | None = None, reference: str | None = None
) -> list[Path]:
    """Write the report of one or several finished runs. Returns the HTML file, then the PNG files.

    Args:
        out: the HTML file, by default ``report.html`` in the run's folder, or beside the folders of several runs.
        target, reference: as in `analysis.compute.compute`.

    Raises:
        UserError: as `content.gather`; ``out`` is a folder.
    """
    check_out(out)
    content = gather(folders, target, reference)
    out = out or (folders[0] if len(folders) == 1 else folders[0].absolute().parent) / "report.html"
    check_out(out)
    pictures = [draw(one, out.with_name(f"{out.stem}_{end}.png")) for end, (one, _) in _figures(content).items()]
    write_whole(out, render(content, pictures))
    return [out, *pictures]


def render(content: Content, pictures: Sequence[Path] = ()) -> str:
    """The page as HTML. The template engine escapes all text from models, data and configs."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("prefix_opd.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    title = " and ".join(run.name for run in content.runs) if len(content.runs) < 4 else f"{len(content.runs)} runs"
    return environment.get_template("page.html.jinja").render(
        title=title,
        content=content,
        figures=_plots(content),
        pictures=[path.name for path in pictures],
        full_strength=FULL_STRENGTH,
        advice=advice,
        version=__version__,
        plotly=get_plotlyjs(),
    )


def _figures(content: Content) -> dict[str, tuple[Figure, int | None]]:
    """Suffix of the PNG's name -> (figure, index of its run). The index is None for a figure of all runs."""
    found: dict[str, tuple[Figure, int | None]] = {}
    if content.compute:
        found["compute"] = figures.compute_figure(content.compute), None
    for i, run in enumerate(content.runs):
        of_run = {"schedule": figures.schedule_figure(run.schedule)}
        if run.signal:
            of_run["signal"] = figures.signal_figure(run.signal)
        of_run |= {one.kind: figures.prefixes_figure(one) for one in run.prefixes}
        suffix = f"_{i}" if len(content.runs) > 1 else ""
        found |= {f"{name}{suffix}": (figure, i) for name, figure in of_run.items()}
    return found


def _plots(content: Content) -> dict[str, dict[str, Any]]:
    """Id of an element of the page -> the plot in it."""
    return {
        panel.key if i is None else f"{panel.key}-{i}": plotly(panel)
        for figure, i in _figures(content).values()
        for panel in figure.panels
    }
