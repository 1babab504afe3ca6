"""A run as one row of results.jsonl, the only input of findings, figures and table; and the curve of an arm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from harness.store import Row, Store
from prefix_opd.base.errors import UserError
from prefix_opd.base.files import read_lines
from prefix_opd.base.intervals import wilson
from prefix_opd.method import names
from prefix_opd.run.history import read_history
from reproduction import seqkd
from reproduction.arms import BY_NAME, Run

RESULTS_FILE = "results.jsonl"
RECORD_FILE = "record.json"
"""A run's row, stored in its folder. So the runs can be moved, and the results rebuilt from them."""
BY_POSITION, PROBE_BY_POSITION = names.by_position("all")[1], names.by_position("probe")[1]
"""Mean |reverse KL| per token by position, of all rollouts and of the probe's."""


@dataclass(frozen=True)
class Point:
    """One validation. Example: ``Point(10, 0.41, 512, 3.1e11, 2.9e11, 14.2)``."""

    step: int
    accuracy: float
    problems: int
    flops_exact: float
    """Training FLOP up to here, with the probe's where the schedule observes it."""
    flops_paper: float
    seconds: float
    """Seconds of training steps up to here, with the probe's where the schedule observes it; without validation and
    start-up."""


@dataclass(frozen=True)
class Record:
    """A run that has ended. ``status`` is "finished" or "failed"; a failed run has an error and no points."""

    arm: str
    seed: int
    updates: int
    status: str
    points: tuple[Point, ...] = ()
    prefix_lengths: tuple[int, ...] = ()
    """L of each update; empty for SeqKD."""
    signal: dict[int, dict[int, float]] = field(default_factory=dict)
    """Update -> first position of a bin -> mean |reverse KL| per token, nats. For full OPD."""
    probe: dict[int, dict[int, float]] = field(default_factory=dict)
    """The same for uncapped rollouts sampled before that update. For every on-policy arm."""
    budget: float | None = None
    """Exact training FLOP that ended the run; None: its number of updates did."""
    lr: float | None = None
    """Learning rate; None: the experiment's."""
    error: str = ""
    commit: str = ""
    day: str = ""

    @property
    def last(self) -> Point:
        return self.points[-1]

    @classmethod
    def from_row(cls, row: Row) -> Record:
        found = {**row, "points": tuple(Point(**point) for point in row["points"])}
        found["prefix_lengths"] = tuple(row["prefix_lengths"])
        for name in ("signal", "probe"):  # JSON has no integer keys
            found[name] = {
                int(step): {int(at): value for at, value in bins.items()} for step, bins in row[name].items()
            }
        return cls(**found)


def key(row: Row) -> tuple:
    """The settings that identify a finished row. The commit is excluded: a reproduction may span several."""
    problems = row["points"][-1]["problems"] if row["points"] else None
    return row["arm"], row["seed"], row["updates"], problems, row.get("budget"), row.get("lr")


def key_of(run: Run) -> tuple:
    """The key of a run's future row."""
    return run.arm.name, run.seed, run.updates, run.problems, run.budget, run.lr


def gather(store: Store, out: Path) -> None:
    """Append the rows in run folders that the store lacks."""
    there = store.finished()
    for path in sorted(out.glob(f"*/{RECORD_FILE}")):
        for row in read_lines(path):
            if key(row) not in there:
                store.append(row)


def comparable(store: Store, updates: int, problems: int) -> list[Record]:
    """The finished runs with this number of updates and problems, seed by seed in the order of the arms."""
    order = {name: i for i, name in enumerate(BY_NAME)}
    found = [Record.from_row(row) for name, row in store.finished().items() if name[2:4] == (updates, problems)]
    return sorted(found, key=lambda one: (one.seed, order[one.arm]))


def check_folder(run: Run) -> None:
    """Reject a folder with a run of another length or on other problems. Raises UserError."""
    for row in read_lines(run.folder / RECORD_FILE):
        there = Record.from_row(row)
        for name, found, asked in (
            ("--updates", there.updates, run.updates),
            ("--problems", there.last.problems, run.problems),
        ):
            if found != asked:
                fix = "name another folder with --out"
                raise UserError(f"{name} {asked}", f"{run.folder} holds a run with {found}", fix)


def keep(run: Run, commit: str) -> Row:
    """Read a run's output, check that it is complete, and write its row into its folder.

    Raises:
        RuntimeError: an update or a validation is missing.
    """
    read = _on_policy if run.arm.experiment else _seqkd
    record = _record(run, "finished", commit, **read(run))
    last = run.updates if run.budget is None else len(record.prefix_lengths)
    if not record.points or record.last.step != last or record.last.problems != run.problems:
        found = [(point.step, point.problems) for point in record.points]
        raise RuntimeError(f"{run.name} is incomplete: validations (step, problems) {found}")
    (run.folder / RECORD_FILE).write_text(json.dumps(asdict(record)) + "\n")
    return asdict(record)


def failed(run: Run, commit: str, error: str) -> Row:
    return asdict(_record(run, "failed", commit, error=error))


def _record(run: Run, status: str, commit: str, **more: Any) -> Record:
    settings = run.arm.name, run.seed, run.updates, status
    return Record(*settings, budget=run.budget, lr=run.lr, commit=commit, day=str(date.today()), **more)


def _on_policy(run: Run) -> dict[str, Any]:
    history = read_history(run.folder)
    if run.budget is None and len(history.updates) != run.updates:
        raise RuntimeError(f"{run.name} has {len(history.updates)} of {run.updates} updates")
    if run.budget is not None and history.updates[-1][names.FLOPS] < run.budget:
        raise RuntimeError(f"{run.name} has {history.updates[-1][names.FLOPS]:.2e} of {run.budget:.2e} FLOP")
    probed = history.updates if run.arm.observes == "probe" else []
    signal, probe = (
        {line["step"]: bins for line in history.updates if (bins := names.bins(line, prefix))}
        for prefix in (BY_POSITION, PROBE_BY_POSITION)
    )

    def of_probes(name: str, step: int) -> float:
        return sum(line.get(name, 0.0) for line in probed if line["step"] <= step)

    points = [
        Point(
            *(one.step, one.accuracy, one.samples),
            one.flops + of_probes(names.PROBE_FLOPS, one.step),
            one.paper_flops,
            one.seconds + of_probes(names.PROBE_SECONDS, one.step),
        )
        for one in history.evaluations
    ]
    lengths = tuple(int(line[names.PREFIX_LENGTH]) for line in history.updates)
    return {
        "points": tuple(points),
        "prefix_lengths": lengths,
        "signal": signal if run.arm.name == "full" else {},
        "probe": probe,
    }


def _seqkd(run: Run) -> dict[str, Any]:
    accuracy, problems = seqkd.measured(run) or (0.0, 0)
    spent = seqkd.read_spent(run)
    point = Point(run.updates, accuracy, problems, spent.flops_exact, spent.flops_paper, spent.seconds)
    return {"points": (point,)}


@dataclass(frozen=True)
class Place:
    """All seeds of an arm at one validation. Example: two seeds at 40% and 50% of 512 problems have mean 45%."""

    step: int
    accuracies: tuple[float, ...]
    """One per seed."""
    problems: int
    flops: float
    """Exact training FLOP up to here, mean of the seeds."""
    flops_paper: float
    seconds: float

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the mean. n is the problems of one seed, because the seeds share their problems."""
        return wilson(self.accuracy, self.problems)

    @property
    def band(self) -> tuple[float, float]:
        """The interval, widened to the lowest and the highest seed."""
        low, high = self.interval
        return min(low, *self.accuracies), max(high, *self.accuracies)

    def above(self, other: Place) -> bool:
        """Whether this band lies entirely above the other, which the findings call higher."""
        return self.band[0] > other.band[1]


def curve(records: Sequence[Record]) -> list[Place]:
    """The validations that all seeds of one arm have, in order."""
    if not records:
        return []
    by_step = [{point.step: point for point in record.points} for record in records]
    steps = sorted(set.intersection(*(set(points) for points in by_step)))
    return [_place([points[step] for points in by_step]) for step in steps]


def _place(points: Sequence[Point]) -> Place:
    def mean(name: str) -> float:
        return sum(getattr(point, name) for point in points) / len(points)

    accuracies = tuple(point.accuracy for point in points)
    costs = mean("flops_exact"), mean("flops_paper"), mean("seconds")
    return Place(points[0].step, accuracies, points[0].problems, *costs)
