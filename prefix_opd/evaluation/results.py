"""``results.json``: the table and its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefix_opd import VERL_VERSION, __version__
from prefix_opd.base.processes import git_commit
from prefix_opd.evaluation.record import done, read_columns
from prefix_opd.evaluation.table import Row, tabulate

RESULTS_FILE = "results.json"


def tables(folder: Path, plan: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of the plan's complete benchmarks."""
    found = {}
    for name, benchmark in plan["benchmarks"].items():
        k = benchmark["same"]["k"]
        if len(done(folder, name, k)) == benchmark["problems"]:
            found[name] = tabulate(read_columns(folder, name), k)
    return found


def results(plan: Mapping[str, Any], rows: Mapping[str, Row]) -> dict[str, Any]:
    """The content of ``results.json``; ``prefix-opd compare`` reads it."""
    about = {name: value for name, value in plan["about"].items() if value is not None}
    return {
        **about,
        "benchmarks": {name: asdict(row) for name, row in rows.items()},
        "sampling": dict(plan["same"]),
        "data": {
            name: {"path": plan["benchmarks"][name]["path"], **plan["benchmarks"][name]["same"]}
            | {"manifest": plan["benchmarks"][name]["manifest"]}
            for name in rows
        },
        "prefix_opd": __version__,
        "verl": VERL_VERSION,
        "git_commit": git_commit(),
    }
