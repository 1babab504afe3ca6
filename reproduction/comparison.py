"""``contenders.md``: schedules at equal FLOP, from the records alone.

The targets are shares of full OPD's gain. Intervals are bootstrapped: seeds are drawn with replacement, and each
accuracy is drawn anew from a binomial distribution over the problems.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np

from harness.page import grid, picture
from prefix_opd.analysis.compute import cost_of
from reproduction.arms import BY_NAME, COMPARISONS
from reproduction.record import Point, Record

FULL = "full"
"""Full OPD sets the targets."""
SHARES = (0.5, 0.9, 0.98)
"""Of full OPD's gain: the targets."""
AIM = 0.3
"""A share of full OPD's FLOP, at which the accuracies are compared."""
DRAWS, SEED = 1000, 0


def at_budget(points: Sequence[Point], budget: float) -> float:
    """Accuracy at a number of FLOP, linear between validations: 0.2 at 10 and 0.4 at 20 FLOP give 0.3 at 15."""
    return float(np.interp(budget, *zip(*((point.flops_exact, point.accuracy) for point in points), strict=True)))


def mean_cost(runs: Sequence[Sequence[Point]], target: float, of: str = "flops_exact") -> float | None:
    """Mean FLOP, or ``of="seconds"``, of the seeds to a target; None if one does not reach it."""
    costs = [cost_of(points, target, of) for points in runs]
    return None if None in costs else mean(cost for cost in costs if cost is not None)


def interval(runs: Sequence[Sequence[Point]], target: float, draw: random.Random) -> tuple[float | None, float | None]:
    """95% bootstrap interval of `mean_cost`. An end is None if it lies beyond the runs."""
    found = sorted(
        (float("inf") if cost is None else cost)
        for cost in (
            mean_cost([_resampled(points, draw) for points in draw.choices(runs, k=len(runs))], target)
            for _ in range(DRAWS)
        )
    )
    low, high = found[round(0.025 * DRAWS)], found[round(0.975 * DRAWS) - 1]
    return tuple(None if end == float("inf") else end for end in (low, high))  # type: ignore[return-value]


def _resampled(points: Sequence[Point], draw: random.Random) -> list[Point]:
    return [
        replace(point, accuracy=sum(draw.random() < point.accuracy for _ in range(point.problems)) / point.problems)
        for point in points
    ]


def write_page(records: Sequence[Record], folder: Path, command: str, task: str = "chain") -> Path:
    """Write ``contenders.md`` (of another task: ``contenders_TASK.md``) and its picture. Returns the page's path.

    Args:
        records: finished runs, at least one of full OPD for the targets.
        command: repeats the runs.
    """
    compared = COMPARISONS[task]
    rows_file, page, curves = (f"{compared.stem}.{ending}" for ending in ("jsonl", "md", "png"))
    runs: dict[str, list[Record]] = {}
    for record in (one for one in records if one.lr is None):
        runs.setdefault(record.arm, []).append(record)
    arms = [arm.name for arm in compared.arms if arm.name in runs]
    parts = [
        "# Schedules at equal FLOP",
        f"Written by `{command}` from [{rows_file}]({rows_file}), one line a run. {_origin(records)}",
        _table(points := {arm: [list(record.points) for record in runs[arm]] for arm in arms}, runs),
        "The same costs as shares of those of full OPD, mean of the seeds: FLOP / seconds of training steps.",
        _shares(points),
        f"![accuracy against training FLOP]({curves})",
    ]
    if any(record.lr for record in records):
        parts.append(_rates(records, [arm.name for arm in compared.arms], _aim(points)))
    with picture(folder / curves, 9, 5) as axes:
        for i, arm in enumerate(arms):
            for j, record in enumerate(runs[arm]):
                points = record.points
                label = BY_NAME[arm].label if not j else None
                axes.plot(
                    [point.flops_exact for point in points],
                    [point.accuracy for point in points],
                    *(["-", "--", ":"][i // 10 % 3],),
                    color=f"C{i % 10}",
                    alpha=0.7,
                    label=label,
                )
        axes.set(xlabel="training FLOP", ylabel="held-out accuracy, uncapped", ylim=(0, 1))
        axes.legend(fontsize=6, ncols=2)
    path = folder / page
    path.write_text("\n\n".join(parts) + "\n")
    return path


def _origin(records: Sequence[Record]) -> str:
    seeds, commits = (sorted({getattr(record, name) for record in records}) for name in ("seed", "commit"))
    budgets = sorted({record.budget for record in records if record.budget})
    return (
        f"Seeds {', '.join(map(str, seeds))}; commit {', '.join(commits)}; budget "
        f"{', '.join(f'{budget:.2g}' for budget in budgets)} FLOP, full OPD {records[0].updates} updates; "
        f"{records[0].last.problems} held-out problems. FLOP include the probe's where a schedule observes it."
    )


def _table(points: Mapping[str, list[list[Point]]], runs: Mapping[str, list[Record]]) -> str:
    targets, draw = _targets(points), random.Random(SEED)
    budget = max((record.budget or 0.0 for records in runs.values() for record in records), default=0.0)
    aim = _aim(points) or budget
    head = ["contender", "seeds", "updates", f"accuracy at {AIM:.0%} of full's FLOP", "accuracy at the budget"]
    head += ["last accuracy, lowest to highest seed"]
    head += [f"FLOP to {share:.0%} of full's gain ({target:.1%})" for share, target in targets.items()]
    rows = []
    for arm, found in points.items():
        ends = sorted(one[-1].accuracy for one in found)
        row = [BY_NAME[arm].label, len(found), "–".join(sorted({str(one[-1].step) for one in found}))]
        row += [f"{mean(at_budget(one, flop) for one in found):.1%}" for flop in (aim, budget)]
        row += [f"{ends[0]:.1%} to {ends[-1]:.1%}"]
        for target in targets.values():
            row.append(_cost(mean_cost(found, target), interval(found, target, draw)))
        rows.append(row)
    return grid(head, rows)


def _aim(points: Mapping[str, list[list[Point]]]) -> float | None:
    """`AIM` of full OPD's FLOP; None without full OPD."""
    return AIM * mean(one[-1].flops_exact for one in points[FULL]) if points.get(FULL) else None


def _rates(records: Sequence[Record], arms: Sequence[str], aim: float | None) -> str:
    """The contenders that ran with several learning rates."""
    budget = max(record.budget or 0.0 for record in records)
    places = [budget] if aim is None else [aim, budget]
    rates = sorted({record.lr for record in records if record.lr})
    rows = []
    for arm in arms:
        row = [BY_NAME[arm].label]
        for rate in (None, *rates):
            found = [one.points for one in records if (one.arm, one.lr) == (arm, rate)]
            shown = (f"{mean(at_budget(one, flop) for one in found):.1%}" for flop in places if found)
            row.append(f"{' / '.join(shown)} ({len(found)})" if found else "")
        if any(row[2:]):
            rows.append(row)
    at_aim = "" if aim is None else f"at {AIM:.0%} of full OPD's FLOP / "
    said = f"Accuracy {at_aim}at the budget, mean of the seeds (their number)."
    return "\n\n".join(
        ("## Other learning rates", said, grid(["contender", "its own", *(f"{rate:g}" for rate in rates)], rows))
    )


def _targets(points: Mapping[str, list[list[Point]]]) -> dict[float, float]:
    """Share of full OPD's gain -> the accuracy there. Empty without full OPD."""
    full = points.get(FULL)
    if not full:
        return {}
    base, end = (mean(one[i].accuracy for one in full) for i in (0, -1))
    return {share: base + share * (end - base) for share in SHARES}


def _shares(points: Mapping[str, list[list[Point]]]) -> str:
    targets = _targets(points)

    def share(arm: str, target: float, of: str) -> str:
        cost, full = (mean_cost(points[name], target, of) for name in (arm, FULL))
        return f"{cost / full:.0%}" if cost is not None and full else "–"

    rows = [
        [
            BY_NAME[arm].label,
            *(f"{share(arm, at, 'flops_exact')} / {share(arm, at, 'seconds')}" for at in targets.values()),
        ]
        for arm in points
    ]
    return grid(["contender", *(f"to {share:.0%} of full's gain" for share in targets)], rows)


def _cost(cost: float | None, ends: tuple[float | None, float | None]) -> str:
    low, high = ("beyond" if end is None else f"{end:.2e}" for end in ends)
    return "not reached" if cost is None else f"{cost:.2e} ({low} to {high})"
