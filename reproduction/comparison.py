"""``contenders.md``: schedules at equal FLOP, from the records alone.

The targets are shares of full OPD's gain. Intervals are bootstrapped: each draw takes seeds with replacement, draws
each accuracy anew from a binomial distribution over the problems, and finds the targets from its draw of full OPD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from zlib import crc32

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
INFINITE = float("inf")
STRAIGHT = "*"
"""Marks a cost that lies before the first validation after training began."""
Curves = Sequence[Sequence[Point]]
"""The validations of each seed."""
Ends = tuple[float, float]


def at_budget(points: Sequence[Point], budget: float) -> float:
    """Accuracy at a number of FLOP, linear between validations: 0.2 at 10 and 0.4 at 20 FLOP give 0.3 at 15."""
    return float(np.interp(budget, *zip(*((point.flops_exact, point.accuracy) for point in points), strict=True)))


def mean_cost(runs: Sequence[Sequence[Point]], target: float, of: str = "flops_exact") -> float | None:
    """Mean FLOP, or ``of="seconds"``, of the seeds to a target; None if one does not reach it."""
    costs = [cost_of(points, target, of) for points in runs]
    return None if None in costs else mean(cost for cost in costs if cost is not None)


def intervals(points: Mapping[str, Curves]) -> dict[tuple[str, float], tuple[Ends, Ends]]:
    """(arm, share of full OPD's gain) -> 95% bootstrap intervals of `mean_cost` and of its share of full OPD's.

    An end is infinite if it lies beyond the runs. Empty without full OPD. Arms with one seed are left out.
    """
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    several = {arm: runs for arm, runs in points.items() if len(runs) > 1}
    streams = {arm: np.random.default_rng([SEED, crc32(arm.encode())]) for arm in several}  # whichever others there are
    for _ in range(DRAWS if several.get(FULL) else 0):
        drawn = {
            arm: [_resampled(runs[i], streams[arm]) for i in streams[arm].integers(len(runs), size=len(runs))]
            for arm, runs in several.items()
        }
        for share, target in _targets(drawn).items():
            full = mean_cost(drawn[FULL], target)
            if full is None:  # it costs more than the whole runs
                full = mean(one[-1].flops_exact for one in drawn[FULL])
            for arm, runs in drawn.items():
                cost = mean_cost(runs, target)
                cost = INFINITE if cost is None else cost
                found.setdefault((arm, share), []).append((cost, cost / full if full else INFINITE))
    return {
        key: (_ends(costs), _ends(shares))
        for key, pairs in found.items()
        for costs, shares in [zip(*pairs, strict=True)]
    }


def _ends(values: Sequence[float]) -> Ends:
    ranked = sorted(values)
    return ranked[round(0.025 * DRAWS)], ranked[round(0.975 * DRAWS) - 1]


def _resampled(points: Sequence[Point], rng: np.random.Generator) -> list[Point]:
    return [replace(one, accuracy=rng.binomial(one.problems, one.accuracy) / one.problems) for one in points]


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
    points = {arm: [record.points for record in runs[arm]] for arm in arms}
    spread = intervals(points)
    parts = [
        "# Schedules at equal FLOP",
        f"Written by `{command}` from [{rows_file}]({rows_file}), one line a run. {_origin(records)}",
        _table(points, runs, spread),
        f"{STRAIGHT}: before the first validation after training began, on a straight line from there. Intervals: 95%, "
        "bootstrap over seeds and problems, the targets included; none for one seed.",
        "The same costs as shares of those of full OPD with the same seeds: FLOP (interval, all seeds) / seconds of "
        "training steps. Seconds of different commits are not comparable.",
        _shares({arm: runs[arm] for arm in arms}, spread),
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


def _table(
    points: Mapping[str, Curves],
    runs: Mapping[str, Sequence[Record]],
    spread: Mapping[tuple[str, float], tuple[Ends, Ends]],
) -> str:
    targets = _targets(points)
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
        for share, target in targets.items():
            row.append(_cost(found, target, spread.get((arm, share), (None,))[0]))
        rows.append(row)
    return grid(head, rows)


def _aim(points: Mapping[str, Curves]) -> float | None:
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


def _targets(points: Mapping[str, Curves]) -> dict[float, float]:
    """Share of full OPD's gain -> the accuracy there. Empty without full OPD."""
    full = points.get(FULL)
    if not full:
        return {}
    base, end = (mean(one[i].accuracy for one in full) for i in (0, -1))
    return {share: base + share * (end - base) for share in SHARES}


def _shares(runs: Mapping[str, Sequence[Record]], spread: Mapping[tuple[str, float], tuple[Ends, Ends]]) -> str:
    points = {arm: [one.points for one in found] for arm, found in runs.items()}
    targets = _targets(points)

    def share(arm: str, target: float, of: str) -> str:
        seeds = {one.seed for one in runs[arm]}
        same = [one.points for one in runs[FULL] if one.seed in seeds]
        cost, full = mean_cost(points[arm], target, of), mean_cost(same, target, of) if same else None
        return "–" if cost is None or not full else f"{cost / full:.0%}"

    def cell(arm: str, part: float, target: float) -> str:
        flop, ends = share(arm, target, "flops_exact"), spread.get((arm, part))
        if ends and flop != "–" and arm != FULL:
            flop += f" ({' to '.join('beyond' if end == INFINITE else f'{end:.0%}' for end in ends[1])})"
        return f"{flop} / {share(arm, target, 'seconds')}"

    rows = [[BY_NAME[arm].label, *(cell(arm, part, at) for part, at in targets.items())] for arm in runs]
    return grid(["contender", *(f"to {share:.0%} of full's gain" for share in targets)], rows)


def _cost(runs: Curves, target: float, ends: Ends | None) -> str:
    costs = [cost_of(points, target, "flops_exact") for points in runs]
    if missed := costs.count(None):
        return "not reached" if missed == len(runs) else f"not reached by {missed} of {len(runs)} seeds"
    first = any(max(point.accuracy for point in points[:2]) >= target for points in runs)
    told = f"{mean_cost(runs, target):.2e}{STRAIGHT if first else ''}"
    if ends is None:
        return f"{told} (one seed)"
    return f"{told} ({' to '.join('beyond' if end == INFINITE else f'{end:.2e}' for end in ends)})"
