"""Statistics of responses, as a table and as ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from prefix_opd.base.files import write_json
from prefix_opd.base.intervals import wilson
from prefix_opd.base.processes import versions
from prefix_opd.base.terminal import between, table
from prefix_opd.evaluation.record import done, read_columns, write_responses
from prefix_opd.grading.statistics import maj_at_k, mean_at_k, pass_at_k, share_interval
from prefix_opd.grading.verdict import common_refusal

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class Row:
    """Statistics of one benchmark. Shares lie between 0 and 1."""

    k: int
    """Responses per problem."""
    problems: int
    mean: float
    """mean@k: share of right responses."""
    interval: tuple[float, float]
    """95% interval of the mean over problems: Wilson's if k = 1 or all are right or wrong, else by bootstrap."""
    pass_at_k: float
    maj_at_k: float
    natural_end: float
    """Share of responses that ended with a stop token."""
    cut: float
    """Share of responses that reached the token limit. The engine ended the remaining ones."""
    mean_length: float
    """Mean length of a response, tokens."""
    ungraded: int
    """Responses to problems without a true answer. They count as wrong."""
    rejected: str | None = None
    """A warning if the grader rejected all responses for the same reason."""


def tabulate(responses: Sequence[Mapping[str, Any]], k: int) -> Row:
    """The statistics of one benchmark.

    Args:
        responses: k dicts per problem, with ``problem``, ``score`` (above 0.5 is right), ``pred``, ``graded_by``,
            ``response_length``, ``natural_end``, ``cut``, and ``reason`` if the grader gave one.
    """
    ordered = sorted(responses, key=lambda row: row["problem"])
    if not ordered:
        raise ValueError("tabulate: no responses")
    means, passes, majorities = [], [], []
    for problem, group in groupby(ordered, key=lambda row: row["problem"]):
        rows = list(group)
        if len(rows) != k:
            raise ValueError(f"tabulate: problem {problem} has {len(rows)} responses, not k={k}")
        right = [row["score"] > 0.5 for row in rows]
        means.append(mean_at_k(right))
        passes.append(pass_at_k(k, sum(right), k))
        majorities.append(maj_at_k([row["pred"] or "" for row in rows], right))
    found = share_interval(means)
    return Row(
        k=k,
        problems=len(means),
        mean=found.mean,
        # of single answers as for runs
        interval=wilson(found.mean, len(means)) if k == 1 else (found.low, found.high),
        pass_at_k=fmean(passes),
        maj_at_k=fmean(majorities),
        natural_end=fmean(row["natural_end"] for row in ordered),
        cut=fmean(row["cut"] for row in ordered),
        mean_length=fmean(row["response_length"] for row in ordered),
        ungraded=sum(row["graded_by"] == "none" for row in ordered),
        rejected=common_refusal([row.get("reason") for row in ordered if row["graded_by"] != "none"], "--max-tokens"),
    )


def render(title: str, rows: Mapping[str, Row], caption: str = ""):
    """A rich table of percentages, narrow enough for 80 columns."""
    from rich.box import SIMPLE_HEAD

    headings = ("", "n x k", "mean@k", "95% interval", "pass@k", "maj@k", "ended", "cut", "tokens")
    made = table(f"{title}, in %", headings, caption, no_wrap=True)
    made.box, made.padding = SIMPLE_HEAD, (0, 1, 0, 0)
    for name, row in rows.items():
        shares = (row.pass_at_k, row.maj_at_k, row.natural_end, row.cut)
        made.add_row(
            name,
            f"{row.problems} x {row.k}",
            f"{100 * row.mean:.1f}",
            between(row.interval, unit=""),
            *(f"{100 * share:.1f}" for share in shares),
            f"{row.mean_length:.0f}",
        )
    return made


def tables(folder: Path, plan: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of the plan's complete benchmarks."""
    found = {}
    for name, benchmark in plan["benchmarks"].items():
        k = benchmark["same"]["k"]
        if len(done(folder, name, k)) == benchmark["problems"]:
            found[name] = tabulate(read_columns(folder, name), k)
    return found


def write_results(folder: Path, plan: Mapping[str, Any]) -> tuple[dict[str, Row], dict[str, Any]]:
    """Write the responses to one file, and ``results.json``, which ``prefix-opd compare`` reads. Returns the rows of
    the plan's complete benchmarks, and the content of ``results.json``."""
    rows = tables(folder, plan)
    write_responses(folder, list(rows))
    about = {name: value for name, value in plan["about"].items() if value is not None}
    content = {
        **about,
        "benchmarks": {name: asdict(row) for name, row in rows.items()},
        "sampling": dict(plan["same"]),
        "data": {
            name: {"path": plan["benchmarks"][name]["path"], **plan["benchmarks"][name]["same"]}
            | {"manifest": plan["benchmarks"][name]["manifest"]}
            for name in rows
        },
        **versions(),
    }
    write_json(folder / RESULTS_FILE, content)
    return rows, content
