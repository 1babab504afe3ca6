"""Measured steps by case and cap, their medians and fits, and which rows of a group are compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from typing import TypeVar

import numpy as np

from benchmarks.cases import OURS, SYSTEMS, Case
from harness.store import Row as Result

AnyCase = TypeVar("AnyCase", bound=Case)
Steps = dict[tuple[Case, int], list[dict]]
"""Measured steps by case and cap."""


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    count: int
    """Measurements."""


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles. Raises ValueError without values."""
    if not len(values):
        raise ValueError("no values: there is no median")
    low, median, high = np.percentile(values, [25, 50, 75])
    return Spread(float(median), float(low), float(high), len(values))


@dataclass(frozen=True)
class Line:
    """y = fixed + slope x, by least squares."""

    fixed: float
    slope: float
    r_squared: float

    @property
    def even(self) -> float | None:
        """The x at which the variable part equals the fixed one; none unless both are positive."""
        return self.fixed / self.slope if self.slope > 0 and self.fixed > 0 else None


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Raises ValueError if x holds fewer than two different values."""
    if len(set(x)) < 2:
        raise ValueError(f"no line through {len(set(x))} different x")
    slope, fixed = np.polyfit(x, y, deg=1)
    residual = float(np.sum((np.asarray(y) - (fixed + slope * np.asarray(x))) ** 2))
    total = float(np.sum((np.asarray(y) - np.mean(y)) ** 2))
    return Line(float(fixed), float(slope), 1 - residual / total if total else 1.0)


@dataclass(frozen=True)
class Row:
    """The measured steps of one case at one cap."""

    case: Case
    cap: int
    steps: Sequence[dict]

    def spread(self, value: Callable[[dict], float]) -> Spread:
        return spread([value(step) for step in self.steps])

    @property
    def seconds(self) -> Spread:
        return self.spread(lambda step: step["seconds"])

    def phase(self, name: str) -> Spread:
        """Seconds of a phase."""
        return self.spread(lambda step: step["phases"][name])

    @property
    def sequences(self) -> Spread:
        """Rollouts a second."""
        return self.spread(lambda step: step["sequences"] / step["seconds"])

    @property
    def flops(self) -> float:
        """Of a step."""
        return self.spread(lambda step: step["flops"]).median


def latest(results: Sequence[Result]) -> list[Result]:
    """The results of the commit that was measured last. Of a repetition that was run twice, the later result counts."""
    if not results:
        return []
    newest = results[-1]["commit"]
    return list({(one["key"], one["repetition"]): one for one in results if one["commit"] == newest}.values())


def measured_steps(results: Iterable[Result]) -> Steps:
    """The steps that count, of all repetitions together."""
    found: Steps = defaultdict(list)
    for result in results:
        case = case_of(result)
        for step in result.get("steps", ()):
            if step["counts"] and _samples_its_cap(case, step["step"]):
                found[case, step["cap"]].append(step)
    return dict(found)


def _samples_its_cap(case: Case, step: int) -> bool:
    """One step early, the last step at a cap samples rollouts of the next cap, or none."""
    return not case.early or (step < case.steps and case.cap_of(step + 1) == case.cap_of(step))


def runs_apart(cases: Sequence[Case], results: Iterable[Result]) -> float | None:
    """The largest gap between two runs of one case: slowest median / fastest median - 1.

    None if no case was run twice. The cases have one cap each.
    """
    medians: dict[Case, list[float]] = defaultdict(list)
    for result in results:
        case = case_of(result)
        for steps in measured_steps([result]).values() if case in cases else ():
            medians[case].append(spread([step["seconds"] for step in steps]).median)
    return max((max(found) / min(found) - 1 for found in medians.values() if len(found) > 1), default=None)


def case_of(result: Result, kind: type[AnyCase] = Case) -> AnyCase:
    # JSON has no tuples
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in result["case"].items()})


def every_row(cases: Iterable[Case], steps: Steps) -> list[Row]:
    """All measured rows of the cases, in the cases' order."""
    return [Row(case, cap, steps[case, cap]) for case in cases for cap in case.caps if (case, cap) in steps]


def at_common_caps(cases: Sequence[Case], steps: Steps) -> list[Row]:
    """Rows at the caps that all cases share, so that something else differs among them."""
    common = set.intersection(*(set(case.caps) for case in cases)) if cases else set()
    return [row for row in every_row(cases, steps) if row.cap in common]


def side_by_side(cases: Sequence[Case], steps: Steps) -> list[Row]:
    """Rows at the caps that several systems have of one model, by model, cap and system."""
    systems = defaultdict(set)
    for case in cases:
        for cap in case.caps:
            systems[case.model, cap].add(case.system)
    models = list(dict.fromkeys(case.model for case in cases))
    rows = [row for row in every_row(cases, steps) if len(systems[row.case.model, row.cap]) > 1]
    return sorted(rows, key=lambda row: (models.index(row.case.model), row.cap, SYSTEMS.index(row.case.system)))


def pairs(cases: Sequence[Case], steps: Steps) -> list[tuple[Row, list[Row]]]:
    """Each row of ours with the other systems' rows at its model and cap, where both are measured."""
    found: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in side_by_side(cases, steps):
        found[row.case.model, row.cap].append(row)
    ordered = [
        ([row for row in rows if row.case.system == OURS], [row for row in rows if row.case.system != OURS])
        for rows in found.values()
    ]
    return [(ours[0], others) for ours, others in ordered if ours and others]


@dataclass(frozen=True)
class Realised:
    """A row relative to the longest cap of its case."""

    row: Row
    seconds: float
    """Share of the longest's seconds."""
    flops: float
    """Share of the longest's FLOP."""

    @property
    def share(self) -> float | None:
        """Share of seconds saved / share of FLOP saved; none for the longest cap, which saves nothing."""
        return (1 - self.seconds) / (1 - self.flops) if self.flops < 1 else None


def realised(case: Case, steps: Steps) -> list[Realised]:
    """Every row of the case; empty unless the longest cap is measured."""
    rows = every_row([case], steps)
    if not rows or rows[-1].cap != max(case.caps):
        return []
    full = rows[-1]
    return [Realised(row, row.seconds.median / full.seconds.median, row.flops / full.flops) for row in rows]


@dataclass(frozen=True)
class Lead:
    """Ours against the fastest other system, in sequences a second."""

    ours: Row
    fastest: Row

    @property
    def ratio(self) -> float:
        return self.ours.sequences.median / self.fastest.sequences.median


def leads(cases: Sequence[Case], steps: Steps) -> list[Lead]:
    """Sorted by FLOP of a step."""
    found = [Lead(ours, max(others, key=lambda row: row.sequences.median)) for ours, others in pairs(cases, steps)]
    return sorted(found, key=lambda lead: lead.ours.flops)


def crossover(found: Sequence[Lead]) -> float | None:
    """The FLOP of a step above which ours is faster in all rows, interpolated between two rows on log-log axes.

    None if ours is faster in all rows, or slower in the last.
    """
    behind = [i for i, lead in enumerate(found) if lead.ratio < 1]
    if not behind or behind[-1] == len(found) - 1:
        return None
    below, above = list(pairwise(found))[behind[-1]]
    part = log(below.ratio) / (log(below.ratio) - log(above.ratio))
    return exp((1 - part) * log(below.ours.flops) + part * log(above.ours.flops))


def fit(rows: Sequence[Row], what: str) -> Line | None:
    """Least squares of seconds against ``tokens`` or ``flops`` over all measured steps; none if these are all equal."""
    steps = [step for row in rows for step in row.steps]
    try:
        return fit_line([step[what] for step in steps], [step["seconds"] for step in steps])
    except ValueError:
        return None


def fit_medians(rows: Sequence[Row]) -> Line | None:
    """Least squares of median seconds against tokens; none for fewer than three rows, which a line always fits."""
    if len(rows) < 3:
        return None
    tokens = [row.spread(lambda step: step["tokens"]).median for row in rows]
    return fit_line(tokens, [row.seconds.median for row in rows])
