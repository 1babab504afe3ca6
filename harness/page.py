"""Parts of a page: a table in markdown, a picture as PNG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def grid(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def section(title: str, note: str, head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A heading, a note and a table; empty without rows."""
    return "\n\n".join(part for part in (f"## {title}", note, grid(head, rows)) if part) if rows else ""


@contextmanager
def picture(path: Path, width: float = 6.0, height: float = 3.6) -> Iterator:
    """Axes to draw on, in inches; the file is written when the block ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    yield axes
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
