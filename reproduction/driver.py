"""All runs, one after another, and what came out of them; started again it goes on where it was.

python -m reproduction                        every arm, seeds 0 1 2
python -m reproduction --small                one seed, fewer arms and updates
python -m reproduction --only full schedule --seeds 0 1
"""

from __future__ import annotations

import argparse
import functools
import importlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefix_opd.analysis.prefixes import KINDS
from prefix_opd.base.errors import EXIT_BAD_INPUT, UserError
from prefix_opd.base.loopback import stay_on_loopback_in_forks
from prefix_opd.run.folder import LOG_FILE
from prefix_opd.run.ledger import validations
from prefix_opd.run.log import read_metrics
from reproduction import on_policy, prefixes, record, seqkd
from reproduction.arms import ARMS, BY_NAME, PROBLEMS, SEEDS, UPDATES, Run
from reproduction.isolation import become_subreaper, output_in, run_isolated

SMALL_ARMS = ("full", "prefix_24", "schedule", "window_72_96", "prefix_seqkd")
SMALL_UPDATES = 20
SMALL_SEEDS = (0,)
RUNS, DOCS = Path("outputs/reproduction"), Path("docs/reproduction")
ALSO_IMPORTED = ("verl.trainer.main_ppo", "verl.trainer.sft_trainer", "prefix_opd.verl_plugin.trainer.evaluator")
"""By the driver, beside what every CPU run imports."""


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    updates: int
    problems: int
    out: Path
    docs: Path

    @property
    def runs(self) -> list[Run]:
        """Seed by seed, so that a stopped reproduction has whole comparisons."""
        return [
            Run(BY_NAME[arm], seed, self.updates, self.problems, self.out) for seed in self.seeds for arm in self.arms
        ]


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code: 0, 1 if a run failed, 2 for bad input."""
    try:
        asked = parse(arguments)
        return reproduce(asked, shlex.join(["bash", "scripts/reproduce_miniature.sh", *arguments]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str]) -> Asked:
    """Raises UserError."""
    parser = _Parser(prog="reproduce_miniature.sh", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--small", action="store_true", help="the whole path in minutes: one seed, fewer arms, updates")
    parser.add_argument("--only", nargs="+", metavar="ARM", help=f"of {' '.join(BY_NAME)}")
    parser.add_argument("--seeds", nargs="+", metavar="N", help="default: 0 1 2")
    parser.add_argument("--updates", help=f"of every run; default: {UPDATES}")
    parser.add_argument("--problems", help=f"held-out problems; default: all {PROBLEMS}")
    parser.add_argument("--out", type=Path, help=f"folder of the runs; default: {RUNS}, with --small {RUNS}_small")
    parser.add_argument("--docs", type=Path, help=f"folder of the results; default: {DOCS}, with --small --out/results")
    given = parser.parse_args(arguments)
    arms = tuple(given.only or (SMALL_ARMS if given.small else [arm.name for arm in ARMS]))
    for name in arms:
        if name not in BY_NAME:
            raise UserError(f"--only {name}", "is no arm", f"known: {', '.join(BY_NAME)}")
    seeds = tuple(_whole("--seeds", value, 0, 2**31 - 1) for value in given.seeds or ())
    out = given.out or (RUNS.with_name(f"{RUNS.name}_small") if given.small else RUNS)
    for name, values in (("--only", arms), ("--seeds", seeds)):
        if len(set(values)) < len(values):
            raise UserError(f"{name} {' '.join(map(str, values))}", "names one twice", "name each once")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}", "is a file", "name a folder")
    return Asked(
        arms=tuple(arm.name for arm in ARMS if arm.name in arms),
        seeds=seeds or (SMALL_SEEDS if given.small else SEEDS),
        updates=_whole("--updates", given.updates, 1) or (SMALL_UPDATES if given.small else UPDATES),
        problems=_whole("--problems", given.problems, 1, PROBLEMS) or PROBLEMS,
        out=out,
        docs=given.docs or (out / "results" if given.small else DOCS),
    )


def reproduce(asked: Asked, command: str) -> int:
    """Run what is not there yet, write what came out. Returns the exit code."""
    from prefix_opd.base.processes import git_commit
    from prefix_opd.evaluation.record import hold

    there = {run.name: record.finished(run) for run in asked.runs}  # a folder of other runs is told at once
    for one in record.all_finished(asked.out, asked.docs, asked.updates, asked.problems):
        there[f"{one.arm}_seed_{one.seed}"] = one
    commit = git_commit() or "unknown"
    with hold(asked.out):
        become_subreaper()
        signal.signal(signal.SIGTERM, _interrupt)
        failed, lost = [], []
        missing = [kind for kind in KINDS if not prefixes.file_of(kind, asked.docs).is_file()]
        if missing or None in there.values():
            _say(f"importing torch, Ray, verl and vLLM once for {len(asked.runs)} runs")
            with output_in(asked.out / "import.log"):
                warm_up()
        for kind in missing:
            _say(f"{kind}: one model goes on from the other's answers")
            log = asked.out / f"{kind}.log"
            if code := run_isolated(functools.partial(prefixes.measure, kind, asked.problems, asked.docs), log):
                lost.append(f"{kind}: exit code {code}, see {log}")
        for i, run in enumerate(asked.runs, 1):
            found, title = there[run.name], f"[{i}/{len(asked.runs)}] {run.arm.label}, seed {run.seed}"
            if found is None:
                _say(title)
                found = _one(run, commit)
                _say(f"  {found.status} {f'{found.last.accuracy:.1%}' if found.points else found.error}")
                failed += [found] if found.status == "failed" else []
            else:
                _say(f"{title}: there already")
    # with the runs of earlier commands: a part of them must not replace the results of all
    whole = record.all_finished(asked.out, asked.docs, asked.updates, asked.problems)
    record.write_records(asked.docs / record.RESULTS_FILE, [*whole, *failed])
    if whole:
        from reproduction.report import write_report

        _say(f"results in {write_report(whole, asked.docs, command)}")
    lost += [f"{one.arm} seed {one.seed}: {one.error}" for one in failed]
    for line in lost:
        _say(f"FAILED {line}")
    return 1 if lost else 0


def warm_up() -> None:
    """Import everything in this process, for all runs that will be forked from it."""
    from prefix_opd.cpu import warm_python
    from prefix_opd.cpu.environment import set_environment

    set_environment()
    stay_on_loopback_in_forks()
    warm_python.load((*warm_python.PRELOAD, *ALSO_IMPORTED))
    importlib.import_module("prefix_opd.launch")


def stages(run: Run) -> list[tuple[str, Callable[[Run], None]]]:
    """What is left to do for a run, in order; each stage in a process of its own."""
    if run.arm.experiment:
        return [("train", on_policy.train)]
    left = []
    if not (seqkd.answers_folder(run) / "results.json").is_file():
        left += [("plan the teacher's answers", seqkd.plan_answers), ("the teacher answers", seqkd.answer)]
    if not seqkd.trained(run):
        left.append(("train", seqkd.train))
    return [*left, ("plan the evaluation", seqkd.plan_evaluation), ("evaluate", seqkd.evaluate)]


def _one(run: Run, commit: str) -> record.Record:
    log = run.folder / LOG_FILE
    for name, work in stages(run):
        code = run_isolated(functools.partial(work, run), log, _Progress(run))
        if code:
            from prefix_opd.run.follow import cause

            for line in cause(log, 0):
                _say(f"  | {line}")
            return record.failed(run, commit, f"{name}: exit code {code}")
    try:
        return record.keep(run, commit)
    except (RuntimeError, OSError, KeyError) as error:
        _say(f"  | {error}")
        return record.failed(run, commit, f"{type(error).__name__} when its results were read")


class _Progress:
    """One line for each validation of a run."""

    def __init__(self, run: Run):
        self.run, self.shown = run, -1
        self.began = self.looked = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.looked < 2:
            return
        self.looked = time.monotonic()
        for found in validations(read_metrics(self.run.folder)):
            if found.step > self.shown:
                self.shown = found.step
                _say(f"  {self.looked - self.began:4.0f} s  update {self.shown:>3}  accuracy {found.accuracy:.1%}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UserError("reproduce_miniature.sh", message, "see --help")


def _whole(name: str, value: str | None, least: int, most: int | None = None) -> int:
    """0 for none given."""
    if value is None:
        return 0
    number = int(value) if value.isascii() and value.isdigit() else -1
    if number < least or (most is not None and number > most):
        upper = f" and at most {most}" if most is not None else ""
        raise UserError(f"{name} {value}", f"must be a whole number of at least {least}{upper}")
    return number


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)
