"""``python -m benchmarks``: measure what is not measured yet, then write the table and the plots."""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import shutil
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path

from benchmarks.cases import GROUPS, MEASURED, TINY, TRL, Case, small, unique
from benchmarks.models import SIZES, make_models, model_folders
from benchmarks.trl_run import TRLMissing, run_trl
from benchmarks.verl_run import run_verl, versions
from harness.driver import Job, Parser, exit_code, names, run_missing, whole
from harness.machine import CHANGED, ROOT, commit, machine
from harness.process import LOG, RunFailed, run_forked
from harness.store import Row, Store
from prefix_opd.base.errors import UserError
from prefix_opd.miniature import shipped_models

OUT = ROOT / "docs" / "benchmarks"
OUT_SMALL = ROOT / "outputs" / "benchmarks_small"
WORK = ROOT / "outputs" / "benchmarks"
"""Models, TRL's environment and the folder of the current run; all of it can be deleted."""
RESULTS = "results.jsonl"
MODELS = (TINY, *SIZES)


def main(arguments: Sequence[str]) -> int:
    if "--gpu" in arguments:
        from benchmarks.gpu import command

        return exit_code(lambda: command.main(arguments))
    return exit_code(lambda: _main(_options(arguments)))


def _main(options: argparse.Namespace) -> int:
    groups = small(GROUPS) if options.small else GROUPS
    cases = unique({name: groups[name] for name in options.only or groups})
    cases = [case for case in cases if case.model in (options.models or [case.model])]
    store = Store(options.out / RESULTS, key)
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    failed = [] if options.report else run_missing(jobs(cases, options.repetitions, options.timeout), store)
    report(store, groups, options.out)
    return 1 if failed else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="benchmarks/run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a trial: few cases, two steps, one repetition")
    parser.add_argument("--gpu", action="store_true", help="the benchmark on GPUs: see --gpu --help")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help=f"some groups: {', '.join(GROUPS)}")
    parser.add_argument("--models", nargs="+", metavar="MODEL", help=f"some models: {', '.join(MODELS)}")
    parser.add_argument("--repetitions", help="runs of each case (default 2, with --small 1)")
    parser.add_argument("--out", type=Path, help="folder of results, table and plots (default docs/benchmarks)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds that a run may take (default 1800)")
    parser.add_argument("--list", action="store_true", help="print the cases and run nothing")
    parser.add_argument("--report", action="store_true", help="only write the page and the plots from existing rows")
    options = parser.parse_args(arguments)
    names("--only", options.only or (), tuple(GROUPS), "group")
    names("--models", options.models or (), MODELS, "model")
    if options.timeout <= 0:
        raise UserError(f"--timeout {options.timeout:g}", "must be more than 0 seconds")
    options.repetitions = whole("--repetitions", options.repetitions, 1) or (1 if options.small else 2)
    options.out = options.out or (OUT_SMALL if options.small else OUT)
    return options


def key(row: Row) -> tuple:
    """What a row is a result of."""
    return row["key"], row["repetition"], row["commit"]


def jobs(cases: Sequence[Case], repetitions: int, timeout: float) -> list[Job]:
    """Every case, ``repetitions`` times, in turn.

    Observed runs come first, while this process has imported nothing: memory pages that a run shares with this process
    would be missing from the run's measured memory.
    """
    version = commit(MEASURED)
    return [
        Job(f"{case.name}, repetition {repetition}", _key(case, repetition, version), run, _seconds)
        for observed in (True, False)
        for repetition in range(1, repetitions + 1)
        for case in cases
        if case.observed is observed
        for run in [functools.partial(measure, case, repetition, timeout)]
    ]


def _key(case: Case, repetition: int, version: str | None) -> Hashable:
    """None, which no row has, if files differ from their commit: such a case is measured again."""
    stands = version is not None and not version.endswith(CHANGED)
    return (case.key(), repetition, version) if stands else None


def measure(case: Case, repetition: int, timeout: float) -> Row:
    """One run as a row."""
    row = {
        "key": case.key(),
        "case": vars(case),
        "repetition": repetition,
        "commit": commit(MEASURED),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "load": round(os.getloadavg()[0], 1),
    }
    folder, made = WORK / "run", WORK / "models"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if case.model != TINY:
            run_forked(functools.partial(make_models, case.model, made), folder / LOG, timeout)
        models = shipped_models() if case.model == TINY else model_folders(case.model, made)
        if case.system in TRL:
            return {**row, **run_trl(case, folder, models, WORK / "trl", timeout)}
        return {**row, **run_verl(case, folder, models, timeout)}
    except (RunFailed, TRLMissing, ValueError) as error:
        return {**row, "error": str(error)}


def _seconds(row: Row) -> str:
    seconds = sorted(step["seconds"] for step in row["steps"] if step["counts"] or row["case"]["observed"])
    return f"{seconds[len(seconds) // 2]:.3f} s a step"


def report(store: Store, groups: dict[str, tuple[Case, ...]], out: Path) -> None:
    """Write the page and the plots of the commit that was measured last."""
    from benchmarks.plots import write_plots
    from benchmarks.rows import latest
    from benchmarks.table import table

    results = latest(store.read())
    if not results:
        raise SystemExit(f"nothing is measured yet in {store.path}")
    plots = write_plots(results, groups, out)
    (out / "README.md").write_text(table(results, groups, plots))
    print(f"wrote {out / 'README.md'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
