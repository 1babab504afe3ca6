"""Tables, consoles and progress bars of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def console(width: int = 110):
    """A rich console on stdout; at least ``width`` columns for a file or a pipe, more if $COLUMNS says so."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=max(width, found.width))


def table(title: str, headings: Sequence[str], caption: str = "", **settings: Any):
    """A rich table with its first column to the left and numbers to the right. ``settings``: of each column."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for i, heading in enumerate(headings):
        made.add_column(heading, justify="right" if i else "left", **settings)
    return made


def between(interval: tuple[float, float] | None, sign: str = "", unit: str = "%") -> str:
    """An interval of shares in percent; "" for None.

    >>> between((0.1, 0.255)), between((-0.1, 0.25), sign="+"), between((0.1, 0.25), unit="")
    ('10.0% to 25.5%', '-10.0% to +25.0%', '10.0 to 25.0')
    """
    if interval is None:
        return ""
    low, high = (f"{100 * end:{sign}.1f}{unit}" for end in interval)
    return f"{low} to {high}"
