"""A run as one line of results.jsonl: all that the findings, the figures and the table are made from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.method import names
from prefix_opd.run.history import read_history
from reproduction import seqkd
from reproduction.arms import ARMS, Run

RESULTS_FILE = "results.jsonl"
RECORD_FILE = "record.json"
BY_POSITION, PROBE_BY_POSITION = names.by_position("all")[1], names.by_position("probe")[1]
"""Mean |reverse KL| of a token by position, of all rollouts and of the probe's."""


@dataclass(frozen=True)
class Point:
    """One validation. Example: ``Point(10, 0.41, 512, 3.1e11, 2.9e11, 14.2)``."""

    step: int
    accuracy: float
    problems: int
    flops_exact: float
    """Of training up to here."""
    flops_paper: float
    seconds: float
    """Of training steps up to here, validation and start-up left out."""


@dataclass(frozen=True)
class Record:
    """A run that has ended. ``status`` is "finished" or "failed"; a failed one has an error and no points."""

    arm: str
    seed: int
    updates: int
    status: str
    points: tuple[Point, ...] = ()
    prefix_lengths: tuple[int, ...] = ()
    """L of each update; none for SeqKD."""
    signal: dict[int, dict[int, float]] = field(default_factory=dict)
    """Update -> first position of a bin -> mean |reverse KL| of a token, nats; for full OPD alone."""
    probe: dict[int, dict[int, float]] = field(default_factory=dict)
    """The same of uncapped rollouts sampled before that update, for every on-policy arm."""
    error: str = ""
    commit: str = ""
    day: str = ""

    @property
    def last(self) -> Point:
        return self.points[-1]

    def as_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Record:
        found: dict[str, Any] = json.loads(line)
        found["points"] = tuple(Point(**point) for point in found["points"])
        found["prefix_lengths"] = tuple(found["prefix_lengths"])
        for name in ("signal", "probe"):  # JSON knows no integer keys
            found[name] = {
                int(step): {int(position): value for position, value in bins.items()}
                for step, bins in found[name].items()
            }
        return cls(**found)


def read_records(path: Path) -> list[Record]:
    """The runs of a results.jsonl that finished."""
    records = [Record.from_line(line) for line in path.read_text().splitlines()]
    return [record for record in records if record.status == "finished"]


def all_finished(out: Path, docs: Path, updates: int, problems: int) -> list[Record]:
    """Every finished run of this length and on these problems, seed by seed in the arms' order.

    Those in the folder of runs, and those that the results already tell of: they may come from another machine.
    """
    told = read_records(docs / RESULTS_FILE) if (docs / RESULTS_FILE).is_file() else []
    here = [Record.from_line(path.read_text()) for path in out.glob(f"*/{RECORD_FILE}")]
    found = {(one.seed, one.arm): one for one in [*told, *here]}
    order = {arm.name: i for i, arm in enumerate(ARMS)}
    alike = [one for one in found.values() if one.updates == updates and one.last.problems == problems]
    return sorted(alike, key=lambda one: (one.seed, order[one.arm]))


def write_records(path: Path, records: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(record.as_line() + "\n" for record in records))


def finished(run: Run) -> Record | None:
    """The record of a run that ended well; none where it has not.

    Raises:
        UserError: the folder holds a run of another length or on other problems.
    """
    path = run.folder / RECORD_FILE
    if not path.is_file():
        return None
    record = Record.from_line(path.read_text())
    for name, there, asked in (
        ("--updates", record.updates, run.updates),
        ("problems", record.last.problems, run.problems),
    ):
        if there != asked:
            raise UserError(
                f"{name} {asked}", f"{run.folder} holds a run with {there}", "name another folder with --out"
            )
    return record


def keep(run: Run, commit: str) -> Record:
    """Read what a run left, check that it is whole, and write its record.

    Raises:
        RuntimeError: an update or a validation is missing.
    """
    read = _on_policy if run.arm.experiment else _seqkd
    record = Record(run.arm.name, run.seed, run.updates, "finished", commit=commit, day=str(date.today()), **read(run))
    if not record.points or record.last.step != run.updates or record.last.problems != run.problems:
        found = [(point.step, point.problems) for point in record.points]
        raise RuntimeError(f"{run.name} is incomplete: validations (step, problems) {found}")
    (run.folder / RECORD_FILE).write_text(record.as_line() + "\n")
    return record


def failed(run: Run, commit: str, error: str) -> Record:
    return Record(run.arm.name, run.seed, run.updates, "failed", error=error, commit=commit, day=str(date.today()))


def _on_policy(run: Run) -> dict[str, Any]:
    history = read_history(run.folder)
    lengths, signal, probe = [], {}, {}
    for line in history.updates:
        lengths.append(int(line[names.PREFIX_LENGTH]))
        if run.arm.name == "full":
            signal[line["step"]] = names.bins(line, BY_POSITION)
        if probed := names.bins(line, PROBE_BY_POSITION):
            probe[line["step"]] = probed
    if len(lengths) != run.updates:
        raise RuntimeError(f"{run.name} has {len(lengths)} of {run.updates} updates")
    points = [
        Point(found.step, found.accuracy, found.samples, found.flops, found.paper_flops, found.seconds)
        for found in history.evaluations
    ]
    return {"points": tuple(points), "prefix_lengths": tuple(lengths), "signal": signal, "probe": probe}


def _seqkd(run: Run) -> dict[str, Any]:
    accuracy, problems = seqkd.measured(run) or (0.0, 0)
    spent = seqkd.read_spent(run)
    point = Point(run.updates, accuracy, problems, spent.flops_exact, spent.flops_paper, spent.seconds)
    return {"points": (point,)}
