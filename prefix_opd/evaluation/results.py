"""``results.json``: the table, and beside it all that says where its figures come from."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import prefix_opd
from prefix_opd import VERL_VERSION, __version__
from prefix_opd.evaluation.record import done, read_columns
from prefix_opd.evaluation.table import Row, tabulate

RESULTS_FILE = "results.json"


def tables(folder: Path, plan: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of those benchmarks of the plan that are done to the last problem."""
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
        "benchmarks": {name: row.as_dict() for name, row in rows.items()},
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


def git_commit() -> str | None:
    """The commit that this package stands at, with "-dirty" for changes; none where git does not have it."""
    folder = Path(next(iter(prefix_opd.__path__)))

    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    # installed into a folder below another repository, the commit would be that one's
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and git("status", "--porcelain", "--untracked-files=no", ".") else commit
