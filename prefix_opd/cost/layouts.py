"""Every shipped layout side by side: GPUs, hours, memory, and why one does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from omegaconf import DictConfig

from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose, layouts
from prefix_opd.cost.memory import shortages
from prefix_opd.cost.plan import plan
from prefix_opd.cost.record import Assumptions

DEFAULT_ACCELERATOR = "a100"


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


def compare(
    overrides: Sequence[str],
    assumptions: Assumptions,
    cards: int | None = None,
    check: Callable[[DictConfig], None] = lambda config: None,
) -> list[Row]:
    """Plan a run with every layout, the fitting ones first, by hours and then by host memory.

    Args:
        overrides: of the run, without a layout.
        assumptions: the same card for every layout; `DEFAULT_ACCELERATOR` if they name none.
        cards: number of GPUs at hand; None: any.
        check: raises UserError for a config that no run accepts.

    Raises:
        UserError: the overrides name a layout, or do not compose.
    """
    if named := next((override for override in overrides if override.startswith("layout=")), None):
        raise UserError(named, "is one of the layouts that --layouts compares", "leave the one or the other out")
    assumptions = replace(assumptions, accelerator=assumptions.accelerator or DEFAULT_ACCELERATOR)
    rows = [_row(name, [*overrides, f"layout={name}"], assumptions, cards, check) for name in layouts()]
    return sorted(rows, key=lambda row: (bool(row.problem), row.hours, row.host))


def fastest(rows: Sequence[Row]) -> str | None:
    """The first layout that fits."""
    return next((row.layout for row in rows if not row.problem), None)


def as_dict(rows: Sequence[Row]) -> dict[str, Any]:
    return {"fastest": fastest(rows), "layouts": [asdict(row) for row in rows]}


def _row(name: str, overrides: list[str], assumptions: Assumptions, cards: int | None, check) -> Row:
    config = compose(overrides)
    found = plan(config, assumptions)
    problem = ""
    try:
        check(config)
    except UserError as error:
        problem = str(error)
    missing = shortages(found.memory_gib)
    if cards is not None and found.run["cards"] > cards:
        problem = f"needs {found.run['cards']} GPUs"
    elif missing:
        problem = problem or f"{missing[0].what}: {missing[0].rule}"
    phases = found.memory_gib["phases"]
    return Row(
        layout=name,
        cards=found.run["cards"],
        placement=found.run["placement"],
        hours=found.hours,
        peaks={phase: sum(parts.values()) for phase, parts in phases.items()},
        host=sum(found.memory_gib["host"].values()),
        problem=problem,
    )
