"""``python -m benchmarks``: measure what is not measured yet, then write the table and the plots."""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks.cases import GROUPS, TINY, TRL, Case, small, unique
from benchmarks.machine import ROOT, commit, machine, versions
from benchmarks.models import make_models, model_folders
from benchmarks.process import RunFailed, run_forked
from benchmarks.store import Result, Store, latest
from benchmarks.trl_env import TRLMissing
from benchmarks.trl_run import run_trl
from benchmarks.verl_run import run_verl
from prefix_opd.base.errors import EXIT_BAD_INPUT, UserError
from prefix_opd.miniature import shipped_models
from reproduction.isolation import become_subreaper

OUT = ROOT / "docs" / "benchmarks"
OUT_SMALL = ROOT / "outputs" / "benchmarks_small"
WORK = ROOT / "outputs" / "benchmarks"
"""Models, TRL's environment, and the folder of the run that is on: nothing to keep."""

RESULTS = "results.jsonl"
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError("benchmarks", message, "see `bash benchmarks/run.sh --help`")


def main(arguments: Sequence[str]) -> int:
    try:
        options = _options(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    everything = small(GROUPS) if options.small else GROUPS
    store = Store(options.out / RESULTS)
    failed = 0
    if not options.report:
        cases = unique({name: everything[name] for name in options.only or everything})
        if options.list:
            print("\n".join(case.name for case in cases))
            return 0
        try:
            failed = measure(cases, options.repetitions, store, options.timeout)
        except KeyboardInterrupt:
            print("stopped; the same command goes on from here", file=sys.stderr)
            return EXIT_INTERRUPTED
    report(store, everything, options.out)
    return 1 if failed else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="benchmarks/run.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a trial: few cases, two steps, one repetition")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help=f"some groups: {', '.join(GROUPS)}")
    parser.add_argument("--repetitions", type=int, help="runs of each case (default 2, with --small 1)")
    parser.add_argument("--out", type=Path, help="folder of results, table and plots (default docs/benchmarks)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds that a run may take (default 1800)")
    parser.add_argument("--list", action="store_true", help="name the cases, run nothing")
    parser.add_argument("--report", action="store_true", help="table and plots of what is measured already")
    options = parser.parse_args(arguments)
    for name in options.only or ():
        if name not in GROUPS:
            raise UserError(f"--only {name}", "is no group", f"groups: {', '.join(GROUPS)}")
    if options.repetitions is not None and options.repetitions < 1:
        raise UserError(f"--repetitions {options.repetitions}", "must be at least 1")
    if options.timeout <= 0:
        raise UserError(f"--timeout {options.timeout:g}", "must be more than 0 seconds")
    options.repetitions = options.repetitions or (1 if options.small else 2)
    options.out = options.out or (OUT_SMALL if options.small else OUT)
    return options


def measure(cases: Sequence[Case], repetitions: int, store: Store, timeout: float) -> int:
    """Run every case as often as asked, in turn; returns how many runs failed.

    Observed runs come first, while nothing is imported here: pages that a run shares with this process would be missing
    from its memory.
    """
    become_subreaper()
    signal.signal(signal.SIGTERM, _interrupt)
    rounds = [
        (repetition, case)
        for observed in (True, False)
        for repetition in range(1, repetitions + 1)
        for case in cases
        if case.observed is observed
    ]
    failed = 0
    for number, (repetition, case) in enumerate(rounds, start=1):
        label = f"run {number}/{len(rounds)}: {case.name}, repetition {repetition}"
        if store.has(case, repetition, commit()):
            print(f"{label}: measured already", flush=True)
            continue
        result = run(case, repetition, timeout)
        store.append(result)
        failed += "error" in result
        print(f"{label}: {_told(result)}", flush=True)
    return failed


def _interrupt(*_) -> NoReturn:
    raise KeyboardInterrupt


def run(case: Case, repetition: int, timeout: float) -> Result:
    """One run as a result; a run that fails is a result too."""
    result = {
        "key": case.key(),
        "case": vars(case),
        "repetition": repetition,
        "commit": commit(),
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
            run_forked(functools.partial(make_models, case.model, made), folder, timeout)
        models = shipped_models() if case.model == TINY else model_folders(case.model, made)
        if case.system in TRL:
            return {**result, **run_trl(case, folder, models, WORK / "trl", timeout)}
        return {**result, **run_verl(case, folder, models, timeout)}
    except (RunFailed, TRLMissing, ValueError) as error:
        return {**result, "error": str(error)}


def _told(result: Result) -> str:
    if "error" in result:
        return f"failed: {result['error']}"
    seconds = sorted(step["seconds"] for step in result["steps"] if step["counts"] or result["case"]["observed"])
    return f"{seconds[len(seconds) // 2]:.3f} s a step"


def report(store: Store, groups: dict[str, tuple[Case, ...]], out: Path) -> None:
    """Write the table and the plots of the commit that was measured last."""
    results = latest(store.read())
    if not results:
        raise SystemExit(f"nothing is measured yet in {store.path}")
    from benchmarks.plots import write_plots
    from benchmarks.table import table

    plots = write_plots(results, groups, out)
    (out / "README.md").write_text(table(results, groups, plots))
    print(f"wrote {out / 'README.md'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
