"""All runs, one after another, and the page of their results; the same command continues where it was stopped.

python -m reproduction                        every arm, seeds 0 1 2
python -m reproduction --small                one seed, fewer arms and updates
python -m reproduction --only full schedule --seeds 0 1
python -m reproduction --contenders           the schedules of docs/schedules.md, at equal FLOP
python -m reproduction --contenders --task cells      the same on the second miniature
python -m reproduction --contenders --only full topk_random --lr 1e-4 1e-3   with other learning rates
"""

from __future__ import annotations

import functools
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.driver import Job, Parser, exit_code, lead, names, once, run_missing, say, whole
from harness.machine import commit
from harness.process import RunFailed, run_forked, warm_up
from harness.store import Row, Store
from prefix_opd.analysis.prefixes import KINDS
from prefix_opd.base.errors import UserError
from prefix_opd.run.folder import LOG_FILE
from prefix_opd.run.ledger import validations
from prefix_opd.run.log import read_metrics
from reproduction import comparison, on_policy, prefixes, record, seqkd
from reproduction.arms import ARMS, COMPARISONS, PROBLEMS, SEEDS, UPDATES, Arm, Run

SMALL_ARMS = ("full", "prefix_24", "schedule", "window_72_96", "prefix_seqkd")
SMALL_UPDATES = 20
SMALL_SEEDS = (0,)
RUNS, DOCS = Path("outputs/reproduction"), Path("docs/reproduction")
IMPORTED = ("verl.trainer.sft_trainer", "prefix_opd.verl_plugin.trainer.evaluator")
"""Modules to import before the first fork, besides those of every CPU run."""
MEASURED = tuple(f"reproduction/{name}.py" for name in ("arms", "on_policy", "seqkd", "sft"))
"""Files that a row depends on, besides `harness.machine.CODE`. Seconds of different commits are not compared."""
PROGRESS_SECONDS = 2.0


@dataclass(frozen=True)
class Asked:
    """The parsed command line."""

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    updates: int
    problems: int
    out: Path
    docs: Path
    budget: float | None = None
    """Exact training FLOP of each contender; None: the paper's comparison."""
    task: str = "chain"
    rates: tuple[float, ...] = ()
    """Learning rates of the contenders; empty: their experiments' own."""

    @property
    def runs(self) -> list[Run]:
        """The runs, seed by seed, so that an interrupted reproduction has complete comparisons."""
        return [self._run(arm, seed, lr) for seed in self.seeds for arm in self.arms for lr in self.rates or (None,)]

    @property
    def results(self) -> Path:
        """The file of the rows."""
        return self.docs / (f"{COMPARISONS[self.task].stem}.jsonl" if self.budget else record.RESULTS_FILE)

    def _run(self, arm: Arm, seed: int, lr: float | None) -> Run:
        # full OPD sets the targets with its own learning rate, and has no budget then
        budget = None if arm.name == comparison.FULL and lr is None else self.budget
        return Run(arm, seed, self.updates, self.problems, self.out, self.budget is not None, budget, lr)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit code: 0, 1 if a run failed, 2 for bad input, 130 if interrupted."""
    command = shlex.join(["bash", "scripts/reproduce_miniature.sh", *arguments])
    return exit_code(lambda: reproduce(parse(arguments), command))


def parse(arguments: Sequence[str]) -> Asked:
    """Parse the command line. Raises UserError."""
    parser = Parser(prog="reproduce_miniature.sh", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--small", action="store_true", help="the whole path in minutes: one seed, fewer arms, updates")
    parser.add_argument("--contenders", action="store_true", help="the comparison of schedules, at equal FLOP")
    parser.add_argument("--budget", help="with --contenders: exact training FLOP of a run")
    parser.add_argument("--task", choices=COMPARISONS, help="with --contenders: the miniature; default: chain")
    parser.add_argument("--lr", nargs="+", metavar="LR", help="with --contenders: learning rates besides their own")
    parser.add_argument("--only", nargs="+", metavar="ARM", help="names of arms; a wrong one lists them")
    parser.add_argument("--seeds", nargs="+", metavar="N", help="default: 0 1 2")
    parser.add_argument("--updates", help=f"of every run; default: {UPDATES}")
    parser.add_argument("--problems", help=f"held-out problems; default: all {PROBLEMS}")
    parser.add_argument("--out", type=Path, help=f"folder of the runs; default: {RUNS}, with --small {RUNS}_small")
    parser.add_argument("--docs", type=Path, help=f"folder of the results; default: {DOCS}, with --small --out/results")
    given = parser.parse_args(arguments)
    compared = COMPARISONS[given.task or "chain"] if given.contenders else None
    of_all = compared.arms if compared else ARMS
    known = tuple(arm.name for arm in of_all)
    arms = tuple(given.only or (SMALL_ARMS if given.small and not given.contenders else known))
    names("--only", arms, known, "arm")
    for option, value in (("--budget", given.budget), ("--task", given.task), ("--lr", " ".join(given.lr or ()))):
        if value and not compared:
            raise UserError(f"{option} {value}", "is read with --contenders alone", "leave the one out or add both")
    seeds = tuple(whole("--seeds", value, 0, 2**31 - 1) for value in given.seeds or ())
    once("--seeds", seeds)
    rates = tuple(above_zero("--lr", value, "1e-3") for value in given.lr or ())
    once("--lr", rates)
    runs = RUNS.with_name(compared.stem) if compared else RUNS
    out = given.out or (runs.with_name(f"{runs.name}_small") if given.small else runs)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}", "is a file", "name a folder")
    return Asked(
        arms=tuple(arm for arm in of_all if arm.name in arms),
        seeds=seeds or (SMALL_SEEDS if given.small else SEEDS),
        updates=whole("--updates", given.updates, 1) or (SMALL_UPDATES if given.small else UPDATES),
        problems=whole("--problems", given.problems, 1, PROBLEMS) or PROBLEMS,
        out=out,
        docs=given.docs or (out / "results" if given.small else DOCS),
        budget=above_zero("--budget", given.budget or str(compared.budget)) if compared else None,
        task=given.task or "chain",
        rates=rates,
    )


def above_zero(option: str, value: str, example: str = "8e11") -> float:
    """The value of an option as a number above 0. Raises UserError."""
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UserError(f"{option} {value}", f"must be a number above 0, e.g. {example}")
    return number


def reproduce(asked: Asked, command: str) -> int:
    """Run the missing runs and write the page. Returns the exit code."""
    from prefix_opd.evaluation.record import hold

    for run in asked.runs:
        record.check_folder(run)
    store = Store(asked.results, record.key)
    record.gather(store, asked.out)
    jobs = [
        Job(
            f"{run.arm.label}, {f'lr {run.lr:g}, ' if run.lr else ''}seed {run.seed}",
            record.key_of(run),
            functools.partial(_run, run),
            _accuracy,
        )
        for run in asked.runs
    ]
    with hold(asked.out):
        lost = [] if asked.budget else _measure_prefixes(asked)
        failed = run_missing(jobs, store)
    # include the runs of earlier commands, so that a partial run does not replace the full results
    if records := record.comparable(store, asked.updates, asked.problems):
        from reproduction.report import write_report

        write = functools.partial(comparison.write_page, task=asked.task) if asked.budget else write_report
        say(f"results in {write(records, asked.docs, command)}")
    lost += [f"{row['arm']} seed {row['seed']}: {row['error']}" for row in failed]
    for line in lost:
        say(f"FAILED {line}")
    return 1 if lost else 0


def _measure_prefixes(asked: Asked) -> list[str]:
    """Measure the missing ones of `KINDS`. Returns the failures."""
    lost = []
    lead()
    for kind in (kind for kind in KINDS if not prefixes.file_of(kind, asked.docs).is_file()):
        say(f"{kind}: one model continues the other's answers")
        log = asked.out / f"{kind}.log"
        warm_up(*IMPORTED, log=asked.out / "import.log")
        try:
            run_forked(functools.partial(prefixes.measure, kind, asked.problems, asked.docs), log)
        except RunFailed as error:
            lost.append(f"{kind}: {error}, see {log}")
    return lost


def stages(run: Run) -> list[tuple[str, Callable[[Run], None]]]:
    """The remaining stages of a run, in order. Each runs in its own process."""
    if run.arm.experiment:
        return [("train", on_policy.train)]
    left = []
    if not (seqkd.answers_folder(run) / "results.json").is_file():
        left += [("plan the teacher's answers", seqkd.plan_answers), ("the teacher answers", seqkd.answer)]
    if not seqkd.trained(run):
        left.append(("train", seqkd.train))
    return [*left, ("plan the evaluation", seqkd.plan_evaluation), ("evaluate", seqkd.evaluate)]


def _run(run: Run) -> Row:
    """Run all stages of a run. Returns its row."""
    from prefix_opd.run.follow import cause

    warm_up(*IMPORTED, log=run.out / "import.log")
    log, version = run.folder / LOG_FILE, commit(MEASURED) or "unknown"
    for name, work in stages(run):
        try:
            run_forked(functools.partial(work, run), log, watch=_Progress(run))
        except RunFailed as error:
            for line in cause(log, 0):
                say(f"  | {line}")
            return record.failed(run, version, f"{name}: {str(error).partition(':')[0]}")
    try:
        return record.keep(run, version)
    except (RuntimeError, OSError, KeyError, UserError) as error:
        say(f"  | {error}")
        return record.failed(run, version, f"{type(error).__name__} when its results were read")


def _accuracy(row: Row) -> str:
    return f"accuracy {row['points'][-1]['accuracy']:.1%}"


class _Progress:
    """Prints one line per validation of a run."""

    def __init__(self, run: Run):
        self.run, self.shown = run, -1
        self.began = self.looked = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.looked < PROGRESS_SECONDS:
            return
        self.looked = time.monotonic()
        for found in validations(read_metrics(self.run.folder)):
            if found.step > self.shown:
                self.shown = found.step
                say(f"  {self.looked - self.began:4.0f} s  update {self.shown:>3}  accuracy {found.accuracy:.1%}")
