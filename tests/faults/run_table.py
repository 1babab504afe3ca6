"""Kill runs at random moments, damage them in every other way, and write what happened to docs/fault_tests.md.

    python tests/faults/run_table.py --kills 20
    python tests/faults/run_table.py --kills 20 --adaptive    # kills of a schedule with state, a table of its own
    python tests/faults/run_table.py --processes              # one kill of each other process, a table of its own

An undisturbed run is the reference. Each case is one line of ``results.jsonl`` in ``--folder``. Existing cases are
skipped, so the table can be interrupted and continued. One case takes one to three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from faults.harness import ADAPTS, ENGINES, TEACHER_FAULTS, Run, WarmStart, differences
from harness.driver import say
from harness.machine import commit
from harness.page import grid
from harness.store import Store
from prefix_opd.run.checkpoints import MANIFEST_FILE, newest_whole

STEPS = 8
REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "fault_tests.md"
BEGIN, END = "<!-- table: tests/faults/run_table.py{} -->", "<!-- end of the table -->"
VICTIMS = ("driver", "WorkerDict", *ENGINES, "SpoiltWorker", "TaskRunner")
"""The processes to kill: driver, trainer's worker, servers and engines of both models, rollout worker, task."""
OTHERS = (
    *("TransferQueueController", "SimpleStorageUnit", "GlobalRequestLoadBalanc", "RewardLoopWorker"),
    *("CheckpointEngineWorker", "raylet"),
)
"""The other processes without which a run cannot go on, by the start of their titles."""
LENGTH = [f"trainer.total_training_steps={STEPS}"]
SPOILT = ["actor_rollout_ref.rollout.agent.agent_loop_manager_class=faults.sabotage.SpoiltManager"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many kills at random moments")
    parser.add_argument("--adaptive", action="store_true", help="kills alone, of a schedule with state")
    parser.add_argument("--processes", action="store_true", help=f"kills alone, of {', '.join(OTHERS)}")
    parser.add_argument("--folder", type=Path, help="default: outputs/faults, or outputs/faults_adaptive, ...")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    arguments = parser.parse_args()
    if arguments.adaptive:
        LENGTH.extend(ADAPTS)
    table = next((name for name in ("adaptive", "processes") if getattr(arguments, name)), "")
    name = "_".join(filter(None, ("faults", table)))
    folder = (arguments.folder or REPOSITORY / "outputs" / name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    cases: dict[str, Callable[[Path], dict]] = {"no fault": reference}
    for number in range(0 if arguments.processes else arguments.kills):
        cases[f"kill {number:02d}"] = lambda at, number=number: killed(at, folder, number)
    others = {
        "killed while a checkpoint is written": lambda at: killed_while_saving(at, folder),
        "SIGTERM": lambda at: asked(at, folder, [signal.SIGTERM]),
        "SIGINT": lambda at: asked(at, folder, [signal.SIGINT]),
        "SIGINT twice": lambda at: asked(at, folder, [signal.SIGINT, signal.SIGINT]),
        "checkpoint truncated": lambda at: hurt_and_resumed(at, folder, truncate_checkpoint),
        "metrics cut in mid-line": lambda at: hurt_and_resumed(at, folder, cut_metrics),
        "disk full": lambda at: disk_full(at, folder),
        **{
            f"teacher {fault}": lambda at, fault=fault: wrong_teacher(at, fault)
            for fault in ("uniform", "shifted", "short", "not_finite", "stalled")
        },
        "tracker that cannot be reached": lambda at: without_tracker(at, folder),
    }
    if arguments.processes:
        cases |= {f"killed: {name}": lambda at, name=name: process_killed(at, folder, name) for name in OTHERS}
    elif not arguments.adaptive:
        cases |= others
    results = Store(folder / "results.jsonl", key=lambda row: row["case"])
    done = results.finished()
    for name, case in cases.items():
        if name in done or (arguments.only and arguments.only not in name and name != "no fault"):
            continue
        at = folder / name.replace(" ", "_")
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        result = {"case": name, "commit": commit(("tests/faults",)), **case(at)}
        results.append(result)
        say(json.dumps(result))
        write_table(results.read(), BEGIN.format(f" --{table}" if table else ""))


_warm: WarmStart | None = None


def new_run(*settings) -> Run:
    """A run that shares its imports with the others."""
    global _warm
    _warm = _warm or WarmStart()
    return Run(*settings, warm=_warm)


# ---- the cases: each returns exit codes, the output, the lost steps, and the differences of the result ----


def reference(at: Path) -> dict:
    run = new_run(at, LENGTH).start()
    began = time.time()
    told = run.told(600)
    assert run.process.returncode == 0, told
    return {"exit": 0, "seconds": time.time() - began, "steps": run.steps()[-1]}


def killed(at: Path, folder: Path, number: int) -> dict:
    """SIGKILL one process at a random moment of a random step or of the start-up, then restart."""
    moments = random.Random(number)
    victim = VICTIMS[number % len(VICTIMS)]
    run, moment = at_a_moment(at, moments, starting=number % 7 == 6)
    phase = run.phase()
    try:
        run.kill(victim)
    except StopIteration:  # not started yet
        run.kill("driver")
        victim = f"driver ({victim} was not there yet)"
    reached = max(run.steps(), default=0)
    result = {"victim": victim, "at_seconds": round(moment), "at_step": reached, "phase": phase}
    return result | ended(run) | again(run, folder, reached)


def process_killed(at: Path, folder: Path, name: str) -> dict:
    """SIGKILL one of `OTHERS` after step 3."""
    run = new_run(at, LENGTH).start()
    run.wait_for_step(3)
    run.kill("raylet/raylet" if name == "raylet" else f"ray::{name}")
    began = time.time()
    result = ended(run)
    seconds = time.time() - began
    result["told"] = f"after {seconds:.0f} s: {result['told']}"
    return result | again(run, folder, run.steps()[-1])


def at_a_moment(at: Path, moments: random.Random, starting: bool) -> tuple[Run, float]:
    """A run at a random moment, and its seconds. If the run has ended by then, repeat with another moment."""
    while True:
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        began = time.time()
        run = new_run(at, [*LENGTH, *SPOILT]).start()  # the sabotage has no fault planned; it names the workers
        if starting:
            time.sleep(moments.uniform(5, 15))
        else:
            run.wait_for_step(moments.randrange(STEPS - 1), seconds=600)
            time.sleep(moments.uniform(0, 2))
        if run.process.poll() is None and STEPS not in run.steps():
            return run, time.time() - began
        ended(run)


def killed_while_saving(at: Path, folder: Path) -> dict:
    """SIGKILL the trainer's worker when the checkpoint of step 4 begins to appear."""
    run = new_run(at, LENGTH).start()
    run.wait_for_step(2)
    checkpoint = run.outputs / "global_step_4"
    while not list(checkpoint.glob("actor/*.pt")):
        time.sleep(0.002)
    run.kill("WorkerDict")
    whole = (checkpoint / MANIFEST_FILE).exists()
    reached = run.steps()[-1]
    result = ended(run) | again(run, folder, reached)
    return result | {"told": f"{result['told']} (its manifest was {'there' if whole else 'not there'})"}


def asked(at: Path, folder: Path, signals: list[int]) -> dict:
    run = new_run(at, LENGTH).start()
    run.wait_for_step(3)
    for number in signals:
        run.process.send_signal(number)
        time.sleep(0.2)
    reached = run.steps()[-1]
    return ended(run) | again(run, folder, reached)


def hurt_and_resumed(at: Path, folder: Path, harm: Callable[[Run], None]) -> dict:
    run = new_run(at, LENGTH).start()
    run.wait_for_step(5)
    run.kill("driver")
    result, reached = ended(run), run.steps()[-1]
    harm(run)
    return result | again(run, folder, reached)


def truncate_checkpoint(run: Run) -> None:
    path = run.outputs / "global_step_4" / "actor" / "optim_world_size_1_rank_0.pt"
    os.truncate(path, path.stat().st_size // 2)


def cut_metrics(run: Run) -> None:
    """Cut the metrics in the middle of the line of step 4, which has the last checkpoint."""
    path = run.outputs / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    whole = sum(len(line) for line in lines if json.loads(line)["step"] < 4)
    os.truncate(path, whole + 100)


def disk_full(at: Path, folder: Path) -> dict:
    """A file of the checkpoint of step 4 is on a device that is always full."""
    run = new_run(at, LENGTH)
    run.fill_disk(4, "optim_world_size_1_rank_0.pt")
    run.start()
    result = ended(run)
    run.free_disk(4)
    return result | again(run, folder, max(run.steps()))


def without_tracker(at: Path, folder: Path) -> dict:
    """TensorBoard's folder cannot be created."""
    run = new_run(at, [*LENGTH, "trainer.logger=[console,tensorboard]"], {"TENSORBOARD_DIR": "/dev/null/nowhere"})
    result = ended(run.start())
    log = (run.outputs / "train.log").read_text().splitlines()
    told = next((line for line in log if "tensorboard" in line and "without" in line), "")
    apart = differences(folder / "no_fault" / "outputs" / "tiny_schedule", run.outputs)
    return result | {"told": told[-200:], "differences": apart}


def wrong_teacher(at: Path, fault: str) -> dict:
    run = new_run(
        at, [*LENGTH, *SPOILT, "prefix_opd.rollout.timeout_seconds=20"], {TEACHER_FAULTS: f"3:{fault}"}
    ).start()
    result = ended(run)
    log = (run.outputs / "train.log").read_text().splitlines()
    told = next((line for line in log if "thrown away and sampled again" in line), "")
    return result | {"told": told[told.find("step ") :], "steps": run.steps()[-1]}


def ended(run: Run) -> dict:
    told = run.told(600)
    run.warm.end_all()
    lines = [line.strip() for line in told.splitlines()]
    begins = ("stopped: ", "error: ", "ended ", "failed", "start the same", "fix the cause")
    shown = [line.split("; the end of")[0] for line in lines if line.startswith(begins)] or lines[-2:]
    if run.process.returncode < 0:
        shown = ["nothing: the launcher itself was killed"]
    return {
        "exit": run.process.returncode,
        "told": "; ".join(shown)[:400],
    }


def again(run: Run, folder: Path, reached: int) -> dict:
    """Run the same command again to its end and compare with the reference."""
    whole = newest_whole(run.outputs)
    lost = reached - (int(whole.name.split("_")[-1]) if whole else 0)
    told = run.start().told(600)
    run.warm.end_all()
    apart = differences(folder / "no_fault" / "outputs" / "tiny_schedule", run.outputs)
    return {
        "steps_lost": max(0, lost),
        "exit_again": run.process.returncode,
        "told_again": "" if run.process.returncode == 0 else told[-400:],
        "differences": apart,
    }


def write_table(results: list[dict], begin: str) -> None:
    """Write the results between the marks of the page."""
    head, rows = ["case", "exit", "what the user sees", "steps repeated", "compared with the run without faults"], []
    for result in results:
        case = result["case"]
        if "victim" in result:
            case += f": {result['victim']} at {result['at_seconds']} s, step {result['at_step']}, {result['phase']}"
        told = re.sub(r"\x1b\[\d+m|/\S*/(?=outputs/)", "", result.get("told", "")).replace("|", r"\|")
        told = re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", told)
        apart = result.get("differences")
        same = (
            ""
            if apart is None
            else "the same"
            if not apart
            else "; ".join(f"{name} {gap:.1e}" for name, gap in apart.items())
        )
        rows.append([case, result["exit"], told, result.get("steps_lost", ""), same])
    commits = ", ".join(dict.fromkeys(result.get("commit") or "unknown" for result in results))
    heading = f"The runs below: {time.strftime('%Y-%m-%d')}, commit {commits}."
    page = PAGE.read_text()
    before, rest = page.split(begin)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{begin}\n{heading}\n\n{grid(head, rows)}\n{END}{after}")


if __name__ == "__main__":
    main()
