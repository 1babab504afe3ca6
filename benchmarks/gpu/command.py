"""``python -m benchmarks --gpu``: measure what is not measured yet, within a time limit, then write the page."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.cards import cards
from benchmarks.gpu.cases import CPU, DEFAULT_SYSTEMS, GPU, OWN, SHARED, SYSTEMS, GpuCase, cases
from benchmarks.models import PAIRS
from benchmarks.verl_run import PACKAGES, versions
from harness.driver import Parser, lead, names, once, say, whole
from harness.machine import CHANGED, ROOT, commit, machine
from harness.process import LOG
from harness.store import Row, Store
from prefix_opd.base.errors import UserError
from prefix_opd.base.files import write_whole
from prefix_opd.base.processes import python_module
from prefix_opd.base.processes import run as run_to_end

OUT = {GPU: ROOT / "docs" / "benchmarks", CPU: ROOT / "outputs" / "benchmarks_gpu"}
WORK = ROOT / "outputs" / "benchmarks"
RESULTS, PAGE, UPDATE_PAGE = "gpu.jsonl", "gpu.md", "gpu_update.txt"
MEASURED = ("benchmarks", "requirements.txt")
CAPS = {GPU: (256, 1024, 4096), CPU: (4, 8)}
OF_GPUS = {GPU: ("vllm", "flash-attn", "triton"), CPU: ()}
"""Packages besides `PACKAGES`."""
UPDATE, ALONE = "benchmarks.update", "update"
"""The benchmark of the update alone, whose rows the page shows, and its name beside the systems."""
LEAST_SECONDS = 30.0
"""No run is started with less time left."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    end = time.monotonic() + 60 * options.minutes
    store, found = Store(options.out / RESULTS, key), cards()
    if options.platform == GPU and not found and not options.report:
        raise UserError("--gpu", "needs a GPU, and nvidia-smi shows none", "rehearse with --platform cpu")
    sizes = {
        name: value
        for name, value in (("prompts", options.prompts), ("rollouts", options.rollouts), ("model", options.pair))
        if value is not None
    }
    sizes |= {"placement": options.placement, "given": tuple(options.set)}
    caps = tuple(options.caps or CAPS[options.platform])
    systems = [name for name in options.systems if name != ALONE]
    runs = cases(len(found), systems, options.platform, caps=caps, measured=options.steps, **sizes)
    failed = 0
    if not options.report:
        lead()
        for case in runs:
            failed += measure(case, store, found, end)
        if options.platform == GPU and ALONE in options.systems:
            failed += _update_alone(options.out, end)
    return write_page(store, runs, options.out) or min(failed, 1)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="benchmarks/run.sh --gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", action="store_true", required=True)
    parser.add_argument("--platform", default=GPU, help="gpu, or cpu: a rehearsal with tiny models")
    systems = (*SYSTEMS, ALONE)
    parser.add_argument("--systems", nargs="+", default=[*DEFAULT_SYSTEMS, ALONE], help=", ".join(systems))
    parser.add_argument("--caps", nargs="+", help="response tokens (default 256 1024 4096)")
    parser.add_argument("--prompts", help="prompts of a step (default 8)")
    parser.add_argument("--rollouts", help="rollouts of a prompt (default 4)")
    parser.add_argument("--steps", default="2", help="measured steps at each cap, after one that warms up (default 2)")
    parser.add_argument("--placement", default=SHARED, help="of the teacher: shared (default) or own, on another card")
    parser.add_argument("--pair", help=f"models: {', '.join(PAIRS)}")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further overrides of every system")
    parser.add_argument("--minutes", type=float, default=10, help="time limit of all runs together (default 10)")
    parser.add_argument("--out", type=Path, help="folder of gpu.jsonl and gpu.md (default docs/benchmarks)")
    parser.add_argument("--report", action="store_true", help="only write the page from existing rows")
    options = parser.parse_args(arguments)
    names("--platform", [options.platform], (GPU, CPU), "platform")
    names("--placement", [options.placement], (SHARED, OWN), "placement")
    names("--systems", options.systems, systems, "system")
    names("--pair", [options.pair] if options.pair else [], tuple(PAIRS), "pair")
    if options.minutes <= 0:
        raise UserError(f"--minutes {options.minutes:g}", "must be more than 0")
    options.caps = [whole("--caps", cap, 1) for cap in options.caps or ()]
    once("--caps", options.caps)
    for name in ("prompts", "rollouts", "steps"):
        setattr(options, name, whole(f"--{name}", getattr(options, name), 1))
    options.out = options.out or OUT[options.platform]
    return options


def key(row: Row) -> tuple:
    """What a row is a result of: a case at one cap, on a kind of card, at a commit."""
    return row["key"], tuple(row["cards"]), row["commit"]


def measure(case: GpuCase, store: Store, found: list[str], end: float) -> int:
    """Run a case at the caps without a row. Returns the number of caps that are still not measured.

    Args:
        found: the cards.
        end: when the run must have ended, seconds of the monotonic clock.
    """
    from benchmarks.gpu.runs import run

    title = f"{' '.join(case.label)}, {case.prompts} x {case.rollouts}"
    about = {
        "commit": commit(MEASURED),
        "cards": found,
        "machine": machine(),
        "versions": versions((*PACKAGES, *OF_GPUS[case.platform])),
    }
    stands = about["commit"] is not None and not about["commit"].endswith(CHANGED)
    done = store.finished() if stands else {}
    caps = tuple(cap for cap in case.caps if key({"key": case.at(cap).key(), **about}) not in done)
    if not caps:
        say(f"{title}: there already")
        return 0
    left = end - time.monotonic()
    if left < LEAST_SECONDS:
        say(f"{title}: no time left for caps {', '.join(map(str, caps))}")
        return len(caps)
    say(f"{title}: caps {', '.join(map(str, caps))}")
    folder = WORK / f"gpu_{case.system}_{case.placement}_{case.cards}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    about["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about["load"] = round(os.getloadavg()[0], 1)
    answer = run(replace(case, caps=caps), folder, WORK / "models", left)
    unmeasured = 0
    for cap in caps:
        row = row_at(case.at(cap), answer, about)
        unmeasured += bool(row.get("error"))
        store.append(row)
        counted = [f"{step['seconds']:.2f}" for step in row["steps"] if step["counts"]]
        say(f"  cap {cap}: {', '.join(counted) or 'no'} s a step" + (f" ({row['error']})" if "error" in row else ""))
    if unmeasured:
        say(f"  log: {folder / LOG}")
    return unmeasured


def row_at(case: GpuCase, answer: Row, about: Row) -> Row:
    """The row of one cap; with an ``error`` if measured steps are missing, which the next start repeats."""
    steps = [step for step in answer["steps"] if step["cap"] == case.caps[0]]
    row = {"key": case.key(), "case": vars(case), **about, **answer, "steps": steps}
    row.pop("error", None)
    counted = sum(step["counts"] for step in steps)
    if counted < case.measured:
        row["error"] = f"{counted} of {case.measured} steps: {answer.get('error', 'the run ended')}"
    return row


def _update_alone(out: Path, end: float) -> int:
    """Run `UPDATE`, where this version has it, and keep the sections that it prints."""
    left = end - time.monotonic() - LEAST_SECONDS
    if importlib.util.find_spec(UPDATE) is None or left < LEAST_SECONDS:
        return 0
    say("the update alone")
    try:
        ran = run_to_end(python_module(UPDATE, ["--seconds", str(round(left))]), seconds=left + LEAST_SECONDS)
    except subprocess.TimeoutExpired:
        say("  failed: no time left")
        return 1
    write_whole(out / UPDATE_PAGE, ran.stdout)
    if ran.returncode:
        say(f"  failed: {(ran.stderr.strip().splitlines() or ['no output'])[-1]}")
    return int(ran.returncode != 0)


def write_page(store: Store, runs: Sequence[GpuCase], out: Path) -> int:
    """Write the page of the commit that was measured last. Returns 1 if nothing is measured."""
    from benchmarks.gpu.page import latest, page

    rows = latest(store.read())
    if not any(step["counts"] for row in rows for step in row["steps"]):
        print(f"nothing is measured yet in {store.path}", file=sys.stderr)
        return 1
    update = out / UPDATE_PAGE
    write_whole(out / PAGE, page(rows, runs, update.read_text() if update.exists() else ""))
    say(f"wrote {out / PAGE}")
    return 0
