"""Start the real program on the miniature, wait for it, inject faults, and compare the results of two runs."""

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
from prefix_opd.run.events import EVENTS_FILE
from prefix_opd.run.log import read_metrics

TESTS = Path(__file__).parents[1]
MARK = "PREFIX_OPD_TEST_RUN"
"""Environment variable with the run's folder, which every process of a run inherits."""
TEACHER_FAULTS = "TEACHER_FAULTS"
"""Environment variable with the teacher's faults by step: see `faults.sabotage`."""
SMALL = (
    "experiment=tiny/schedule",
    "prefix_opd.schedule.increment=12",
    "trainer.save_freq=2",
    "trainer.test_freq=4",
    "data.train_batch_size=8",
    "actor_rollout_ref.rollout.n=2",
    "data.val_max_samples=32",
)
ADAPTS = (
    "prefix_opd.schedule.name=validation",
    "prefix_opd.schedule.start=4",
    "prefix_opd.schedule.factor=2",
    "prefix_opd.schedule.patience=1",
    "prefix_opd.schedule.gain=0.9",  # every validation but the first stands still
    "prefix_opd.probe.every=0",
    "trainer.test_freq=2",
    "data.val_max_samples=16",
)
"""A schedule with state, over 8 updates: L = 4, 4, 4, 8, 8, 16, 16, 32."""
EXACT = ("prefix_opd/prefix_length", "prefix_opd/fingerprint/prompts", "prefix_opd/fingerprint/rollouts")
LEDGER = ("prefix_opd/flops_exact/so_far", "prefix_opd/flops_paper/so_far", "prefix_opd/tokens_so_far/generated")
LEARNT = ("prefix_opd/reverse_kl/mean", "prefix_opd/reverse_kl/abs_mean", "actor/loss", "actor/grad_norm")
ENGINES = tuple(f"{model} {part}" for model in ("student", "teacher") for part in ("server", "engine"))
LOADING = re.compile(
    r"\(vLLMHttpServer pid=(\d+)\) \(EngineCore pid=(\d+)\).*Starting to load model \S*/(student|teacher)\b"
)
PHASES = {
    "init_model": "start-up",
    "update_actor": "update",
    "update_weights": "weight sync",
    "save_checkpoint": "checkpoint writing",
    "load_checkpoint": "checkpoint reading",
}
DIGITS = 1e-3
"""Tolerated relative difference of the learning metrics: a batched engine rounds log-probs in the last bits."""


class WarmStart:
    """Runs, one after another, that share their imports: each is a fork of a process with all imports done.

    All processes of a run stay descendants of this process (`harness.isolation`), and only one run is active. So every
    descendant except the forked process belongs to the run.
    """

    def __init__(self):
        become_subreaper()
        warm_up()
        self.python = str(warm_python.start())
        (self.copied,) = psutil.Process().children()

    @property
    def cli(self) -> list[str]:
        """Interpreter arguments with which ``prefix-opd train`` forks the run from the warm copy."""
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
        """End the remaining processes of a killed run.

        Ray's processes end with the process that imported Ray for them. Here that is this process, elsewhere the run.
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
    """The warm copy to fork the run's process from."""
    process: subprocess.Popen | None = None

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs" / "tiny_schedule"

    def start(self) -> Run:
        environment = {
            **os.environ,
            "TENSORBOARD_DIR": str(self.folder / "tensorboard"),
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),  # Ray's workers import faults and harness
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
        """Wait for the end of the command and return its output."""
        return self.process.communicate(timeout=seconds)[0]

    def steps(self) -> list[int]:
        return [line["step"] for line in read_metrics(self.outputs)]

    def wait_for_milestone(self, text: str, seconds: float = 300) -> None:
        """Wait for a milestone that begins with ``text``."""
        deadline, events = time.time() + seconds, self.outputs / EVENTS_FILE
        while not events.exists() or f'"{text}' not in events.read_text():
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.time() < deadline, f"no milestone {text!r} in {seconds} s"
            time.sleep(0.1)

    def wait_for_step(self, step: int, seconds: float = 300) -> None:
        deadline = time.time() + seconds
        while time.time() < deadline:
            if max(self.steps(), default=-1) >= step:
                return
            assert self.process.poll() is None, self.process.stdout.read()
            time.sleep(0.1)
        raise AssertionError(f"step {step} did not come in {seconds} s")

    def processes(self) -> dict[int, str]:
        """Process id -> title of all processes of this run, including Ray's and vLLM's."""
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
        """The command's child, which is Ray's driver; the command itself before the child starts."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else pid

    def kill(self, victim: str) -> int:
        """SIGKILL one process: "driver", "student server", "teacher engine", …, or a process by part of its title.

        Returns the process id. Raises StopIteration without such a process.
        """
        if victim == "driver":
            pid = self.driver()
        elif victim in ENGINES:
            pid = self.engine(*victim.split())
        else:
            pid = next(pid for pid, shown in sorted(self.processes().items()) if victim in shown)
        os.kill(pid, signal.SIGKILL)
        return pid

    def engine(self, model: str, part: str) -> int:
        """Process id of a model's "server" or "engine". Raises StopIteration if it does not run."""
        # the titles do not name the model, but both processes sign their log lines
        log = self.outputs / "train.log"
        text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text()) if log.exists() else ""
        signed = {name: dict(server=server, engine=engine) for server, engine, name in LOADING.findall(text)}
        pid = int(signed[model][part]) if model in signed else 0
        if pid not in self.processes():
            raise StopIteration
        return pid

    def phase(self) -> str:
        """The trainer's current phase: the title of Ray's worker names the running method."""
        titles = " ".join(self.processes().values())
        busy = re.search(r"ray::WorkerDict\.(?:actor_rollout_)?(\w+)", titles)
        if busy:
            return PHASES.get(busy[1], busy[1])
        if "WorkerDict" not in titles:
            return "start-up"
        return "rollout and scoring" if self.steps() else "start-up and first validation"

    def fill_disk(self, step: int, file: str) -> None:
        """Put a file of the checkpoint of ``step`` on a device that is always full, until `free_disk`."""
        checkpoint, elsewhere = self.outputs / f"global_step_{step}", self.folder / f"full_{step}"
        (elsewhere / "actor").mkdir(parents=True)
        (elsewhere / "actor" / file).symlink_to("/dev/full")
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.symlink_to(elsewhere)  # a folder of its own would be cleared before the checkpoint is written

    def free_disk(self, step: int) -> None:
        (self.outputs / f"global_step_{step}").unlink()

    def left_behind(self, seconds: float = 120) -> dict[int, str]:
        """Processes of the run still alive ``seconds`` after its end. Ray's agents take up to a minute to end."""
        deadline = time.time() + seconds
        while (left := self.processes()) and time.time() < deadline:
            time.sleep(0.5)
        return left


def differences(reference: Path, other: Path, upto: int | None = None) -> dict[str, float]:
    """Metric -> largest relative difference between two runs over the steps; empty if they agree.

    L, prompts, rollouts and the ledger must be identical; learning metrics must agree to `DIGITS`.
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
