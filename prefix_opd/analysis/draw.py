"""Draw a figure (`figures`) as PNG."""

from __future__ import annotations

from pathlib import Path

from prefix_opd.analysis.figures import Figure, Line, Panel

STYLES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def draw(figure: Figure, path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = len(figure.panels)
    canvas, axes = plt.subplots(1, columns, figsize=(6.2 * columns, 3.9), layout="constrained", squeeze=False)
    for axis, panel in zip(axes[0], figure.panels, strict=True):
        _panel(axis, panel)
    canvas.suptitle(figure.title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=150)
    plt.close(canvas)
    return path


def _panel(axis, panel: Panel) -> None:
    right = axis.twinx() if panel.right else None
    if panel.stacked:
        names, heights, colours = zip(*((one.name, one.y, one.colour) for one in panel.lines), strict=True)
        axis.stackplot(panel.lines[0].x, heights, labels=names, colors=colours)
    else:
        for line in panel.lines:
            _line(right if line.right else axis, line)
    handles, labels = axis.get_legend_handles_labels()
    if right is not None:
        right.set_ylabel(panel.right)
        right.set_ylim(*(-0.02, 1.02) if panel.right_is_share else (0, None))
        axis.set_zorder(right.get_zorder() + 1)  # curves of the left axis are drawn above those of the right
        axis.patch.set_visible(False)
        handles, labels = (a + b for a, b in zip((handles, labels), right.get_legend_handles_labels(), strict=True))
    axis.set_xlabel(panel.x)
    axis.set_ylabel(panel.y)
    lowest = min((y for line in panel.lines if not line.right for y in line.y), default=0.0)
    axis.set_ylim(*(0, 1) if panel.is_share else (0 if lowest >= 0 else None, None))
    if lowest < 0:
        axis.axhline(0, color="0.6", linewidth=0.8)
    axis.legend(handles, labels, fontsize=7)


def _line(axis, line: Line) -> None:
    axis.errorbar(
        line.x,
        line.y,
        yerr=line.bars,
        fmt="o" if line.bars else "." if line.marks else "",
        linestyle=STYLES[line.dash],
        linewidth=line.width * 0.75,
        drawstyle=f"steps-{line.steps}" if line.steps else "default",
        capsize=3,
        color=line.colour,
        label=line.name,
    )
