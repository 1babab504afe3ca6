"""Write the report: one HTML file, and its plots as PNG beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefix_opd import __version__
from prefix_opd.analysis import draw
from prefix_opd.analysis.compute import COSTS
from prefix_opd.analysis.signal import VALUES
from prefix_opd.analysis.tables import advice
from prefix_opd.base.files import check_out, whole_files
from prefix_opd.report import plots
from prefix_opd.report.content import FULL_STRENGTH, Content, RunContent, gather

TEMPLATE = "page.html.jinja"


def write_report(
    folders: Sequence[Path], out: Path | None = None, target: float | None = None, reference: str | None = None
) -> list[Path]:
    """Write the report of one or several runs.

    Args:
        folders: of finished runs.
        out: the HTML file; none: ``report.html`` in the run's folder, or beside the folders of several.
        target, reference: as for `analysis.compute.compute`.

    Returns:
        The HTML file, then the PNG files.

    Raises:
        UserError: what `content.gather` refuses, or a folder for a file.
    """
    check_out(out)
    content = gather(folders, target, reference)
    out = out or (folders[0] if len(folders) == 1 else folders[0].absolute().parent) / "report.html"
    pictures = _pictures(content, out)
    with whole_files(out.parent) as place:
        place(out.name).write_text(render(content, pictures), encoding="utf-8")
    return [out, *pictures]


def render(content: Content, pictures: Sequence[Path] = ()) -> str:
    """The page. Everything that comes from models, data or configs is escaped by the template engine."""
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
    return environment.get_template(TEMPLATE).render(
        title=title,
        content=content,
        figures=_figures(content),
        pictures=[path.name for path in pictures],
        full_strength=FULL_STRENGTH,
        advice=advice,
        version=__version__,
        plotly=get_plotlyjs(),
    )


def _figures(content: Content) -> dict[str, dict[str, Any]]:
    """By the id of the element that each is drawn into."""
    found = {}
    if content.compute:
        for kind in COSTS:
            found[f"compute-{kind}"] = plots.compute_figure(content.compute, kind)
    for i, run in enumerate(content.runs):
        found[f"schedule-{i}"] = plots.schedule_figure(run.schedule)
        found[f"seconds-{i}"] = plots.seconds_figure(run.schedule)
        if run.signal:
            for value in VALUES:
                found[f"signal-{value}-{i}"] = plots.signal_figure(run.signal, value)
        for one in run.prefixes:
            found[f"{one.kind}-{i}"] = plots.prefixes_figure(one)
    return found


def _pictures(content: Content, out: Path) -> list[Path]:
    found = []
    if content.compute:
        found.append(draw.draw_compute(content.compute, out.with_name(f"{out.stem}_compute.png")))
    for i, run in enumerate(content.runs):
        suffix = f"_{i}" if len(content.runs) > 1 else ""
        found += _pictures_of(run, out, suffix)
    return found


def _pictures_of(run: RunContent, out: Path, suffix: str) -> list[Path]:
    found = [draw.draw_schedule(run.schedule, out.with_name(f"{out.stem}_schedule{suffix}.png"))]
    if run.signal:
        found.append(draw.draw_signal(run.signal, out.with_name(f"{out.stem}_signal{suffix}.png")))
    for one in run.prefixes:
        found.append(draw.draw_prefixes(one, out.with_name(f"{out.stem}_{one.kind}{suffix}.png")))
    return found
