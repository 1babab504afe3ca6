"""Start the real program on the miniature, wait for it, hurt it, and compare what two runs learnt."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from harness.isolation import become_subreaper
from harness.process import warm_up
from prefix_opd.cpu import warm_python
from prefix_opd.run.log import read_metrics

TESTS = Path(__file__).parents[1]
MARK = "PREFIX_OPD_TEST_RUN"
"""A variable that every process of a run inherits: the run's folder."""
TEACHER_FAULTS = "TEACHER_FAULTS"
"""A variable that says which fault the teacher has at which step: see `faults.sabotage`."""
SMALL = (
    "experiment=tiny/schedule",
    "prefix_opd.schedule.increment=12",
    "trainer.save_freq=2",
    "trainer.test_freq=4",
    "data.train_batch_size=8",
    "actor_rollout_ref.rollout.n=2",
    "data.val_max_samples=32",
)
EXACT = ("prefix_opd/prefix_length", "prefix_opd/fingerprint/prompts", "prefix_opd/fingerprint/rollouts")
LEDGER = ("prefix_opd/flops_exact/so_far", "prefix_opd/flops_paper/so_far", "prefix_opd/tokens_so_far/generated")
LEARNT = ("prefix_opd/reverse_kl/mean", "prefix_opd/reverse_kl/abs_mean", "actor/loss", "actor/grad_norm")
ENGINES = tuple(f"{model} {part}" for model in ("student", "teacher") for part in ("server", "engine"))
LOADING = re.compile(
    r"\(CpuvLLMHttpServer pid=(\d+)\) \(EngineCore pid=(\d+)\).*Starting to load model \S*/(student|teacher)\b"
)
PHASES = {
    "init_model": "start-up",
    "update_actor": "update",
    "update_weights": "weight sync",
    "save_checkpoint": "checkpoint writing",
    "load_checkpoint": "checkpoint reading",
}
DIGITS = 1e-3
"""Relative difference of the learnt metrics: sums over log-probs that a batched engine rounds in its last bits."""


class WarmStart:
    """Runs one after another that share their imports: each is a copy of a process that has imported everything.

    What a run starts stays below this process (`harness.isolation`), and one run is on at a time: so
    every process below, but for the copied one, is the run's.
    """

    def __init__(self):
        become_subreaper()
        warm_up()
        self.python = str(warm_python.start())
        (self.copied,) = psutil.Process().children()

    @property
    def cli(self) -> list[str]:
        """Arguments of an interpreter whose ``prefix-opd train`` starts the run itself from the copy."""
        run = f"import sys; sys.executable = {self.python!r}; from prefix_opd.cli import main; sys.exit(main())"
        return ["-c", run]

    def processes(self) -> dict[int, str]:
        found = {}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process != self.copied and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())
        return found

    def end_all(self) -> None:
        """End what a killed run left.

        Ray's processes end with the one that imported Ray for them, which here is this one: elsewhere it is the run.
        """
        deadline = time.time() + 20
        while (left := self.processes()) and time.time() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)


@dataclass
class Run:
    """A run in ``folder/outputs/tiny_schedule``, and the processes that belong to it."""

    folder: Path
    overrides: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    warm: WarmStart | None = None
    """Start the run's own process from this copy."""
    process: subprocess.Popen | None = None

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs" / "tiny_schedule"

    def start(self) -> Run:
        environment = {
            **os.environ,
            "TENSORBOARD_DIR": str(self.folder / "tensorboard"),
            "PYTHONPATH": str(TESTS),
            MARK: str(self.folder),
            **self.environment,
        }
        cli = self.warm.cli if self.warm else ["-m", "prefix_opd.cli"]
        command = [sys.executable, *cli, "train", *SMALL, *self.overrides]
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        return self

    def told(self, seconds: float = 300) -> str:
        """What the command printed; waits for its end."""
        return self.process.communicate(timeout=seconds)[0]

    def steps(self) -> list[int]:
        return [line["step"] for line in read_metrics(self.outputs)]

    def wait_for_step(self, step: int, seconds: float = 300) -> None:
        deadline = time.time() + seconds
        while time.time() < deadline:
            if max(self.steps(), default=-1) >= step:
                return
            assert self.process.poll() is None, self.process.stdout.read()
            time.sleep(0.1)
        raise AssertionError(f"step {step} did not come in {seconds} s")

    def processes(self) -> dict[int, str]:
        """Title by process id of all that were started for this run, Ray's and vLLM's among them."""
        if self.warm:
            return self.warm.processes()
        mark, found = f"{MARK}={self.folder}".encode(), {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    )
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
        return found

    def driver(self) -> int:
        """The child of the command: it holds Ray's driver. The command itself before it has started one."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else pid

    def kill(self, victim: str) -> int:
        """SIGKILL one process: the "driver", the "student server", "teacher engine", …, or what has this in its title.

        Returns its id. Raises StopIteration if there is none.
        """
        if victim == "driver":
            pid = self.driver()
        elif victim in ENGINES:
            pid = self._engine(*victim.split())
        else:
            pid = next(pid for pid, shown in sorted(self.processes().items()) if victim in shown)
        os.kill(pid, signal.SIGKILL)
        return pid

    def _engine(self, model: str, part: str) -> int:
        # neither has a title that names its model, but both sign what they log
        log = self.outputs / "train.log"
        text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text()) if log.exists() else ""
        signed = {name: dict(server=server, engine=engine) for server, engine, name in LOADING.findall(text)}
        pid = int(signed[model][part]) if model in signed else 0
        if pid not in self.processes():
            raise StopIteration
        return pid

    def phase(self) -> str:
        """What the trainer is at: Ray's title of its worker names the method that runs."""
        titles = " ".join(self.processes().values())
        busy = re.search(r"ray::WorkerDict\.(?:actor_rollout_)?(\w+)", titles)
        if busy:
            return PHASES.get(busy[1], busy[1])
        if "WorkerDict" not in titles:
            return "start-up"
        return "rollout and scoring" if self.steps() else "start-up and first validation"

    def left_behind(self, seconds: float = 120) -> dict[int, str]:
        """Processes of the run that still live so long after its end: Ray's agents take up to a minute."""
        deadline = time.time() + seconds
        while (left := self.processes()) and time.time() < deadline:
            time.sleep(0.5)
        return left


def differences(reference: Path, other: Path, upto: int | None = None) -> dict[str, float]:
    """Where two runs differ: the largest relative difference of a metric over the steps; empty if nowhere.

    L, prompts, rollouts and the ledger must be the same to the last digit, what was learnt to `DIGITS`.
    """
    wanted = {line["step"]: line for line in read_metrics(reference) if upto is None or line["step"] <= upto}
    found = {line["step"]: line for line in read_metrics(other) if upto is None or line["step"] <= upto}
    if list(wanted) != list(found):
        return {f"steps {list(found)} for {list(wanted)}": 1.0}
    allowed = dict.fromkeys((*EXACT, *LEDGER), 0.0) | dict.fromkeys(LEARNT, DIGITS)
    worst: dict[str, float] = {}
    for step, line in wanted.items():
        names = [name for name in line if name in allowed or name.startswith("val-core/")]
        for name in names:
            gap = abs(line[name] - found[step].get(name, float("inf"))) / (abs(line[name]) or 1.0)
            if gap > allowed.get(name, 0.0):
                worst[name] = max(worst.get(name, 0.0), gap)
    return worst
