"""Every shipped layout side by side: GPUs, hours, memory, and why one does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.base.terminal import table
from prefix_opd.checks.cluster import check_parallel_sizes
from prefix_opd.checks.preflight import check_batches
from prefix_opd.checks.sizes import check_lengths
from prefix_opd.checks.surface import check_surface
from prefix_opd.checks.teachers import source_shares
from prefix_opd.config.compose import compose
from prefix_opd.config.overrides import options
from prefix_opd.config.settings import Settings
from prefix_opd.cost.memory import shortages
from prefix_opd.cost.plan import plan
from prefix_opd.cost.record import Assumptions
from prefix_opd.cost.view import hours_text

DEFAULT_ACCELERATOR = "a100"
HEADINGS = ("layout", "GPUs", "hours", "sample", "score", "update", "host")


@dataclass(frozen=True)
class Row:
    """A layout for one run. Memory in GiB: the peak of a GPU by phase, and of a node's host memory."""

    layout: str
    cards: int
    placement: str
    hours: float
    peaks: dict[str, float]
    host: float
    problem: str
    """Why it does not fit; empty if it does."""

    def cells(self) -> list[str]:
        """Text of the columns `HEADINGS`."""
        peaks = [
            f"{self.peaks[phase]:.1f}" if phase in self.peaks else "" for phase in ("sampling", "scoring", "update")
        ]
        return [self.layout, f"{self.cards} {self.placement}", hours_text(self.hours), *peaks, f"{self.host:.0f}"]


def compare(overrides: Sequence[str], assumptions: Assumptions, cards: int | None = None) -> list[Row]:
    """Plan a run with every layout, the fitting ones first, by hours and then by host memory.

    Args:
        assumptions: the same GPU for every layout; `DEFAULT_ACCELERATOR` if they name none.
        cards: number of GPUs at hand; None: any.

    Raises:
        UserError: the overrides name a layout, do not compose, or have a value that no run accepts.
    """
    if named := next((override for override in overrides if override.startswith("layout=")), None):
        raise UserError(named, "is one of the layouts that --layouts compares", "leave the one or the other out")
    assumptions = replace(assumptions, accelerator=assumptions.accelerator or DEFAULT_ACCELERATOR)
    rows = [_row(name, [*overrides, f"layout={name}"], assumptions, cards) for name in options("layout")]
    return sorted(rows, key=lambda row: (bool(row.problem), row.hours, row.host))


def fastest(rows: Sequence[Row]) -> str | None:
    return next((row.layout for row in rows if not row.problem), None)


def as_dict(rows: Sequence[Row]) -> dict[str, Any]:
    return {"fastest": fastest(rows), "layouts": [asdict(row) for row in rows]}


def _row(name: str, overrides: list[str], assumptions: Assumptions, cards: int | None) -> Row:
    config = compose(overrides)
    check_surface(config)  # `plan` calculates with the values
    check_lengths(config, Settings.from_node(config.prefix_opd))
    found = plan(config, replace(assumptions, source_shares=source_shares(config)))
    problem = "".join(f"{short.what}: {short.rule}" for short in shortages(found.memory_gib)[:1])
    try:
        for check in (check_batches, check_parallel_sizes):
            check(config)
    except UserError as error:
        problem = str(error)
    if cards is not None and found.run["cards"] > cards:
        problem = f"needs {found.run['cards']} GPUs"
    return Row(
        layout=name,
        cards=found.run["cards"],
        placement=found.run["placement"],
        hours=found.hours,
        peaks={phase: sum(parts.values()) for phase, parts in found.memory_gib["phases"].items()},
        host=sum(found.memory_gib["host"].values()),
        problem=problem,
    )


def render(rows: Sequence[Row], accelerator: str):
    from rich.console import Group
    from rich.text import Text

    told = (
        "GiB: the peak of a GPU in each phase, and a node's host memory. shared: the teacher is on the student's GPUs."
    )
    made = table(f"layouts on {accelerator}", HEADINGS, told, no_wrap=True)
    for fits in (True, False):
        for row in (row for row in rows if fits is not bool(row.problem)):
            made.add_row(*row.cells(), style=None if fits else "dim")
        made.add_section()
    best = fastest(rows)
    last = f"fastest that fits: layout={best}" if best else "no layout fits"
    return Group(made, Text("\n".join([*(f"{row.layout}: {row.problem}" for row in rows if row.problem), last])))
