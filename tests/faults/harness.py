"""Start the real program on the miniature, wait for it, hurt it, and compare what two runs learnt."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefix_opd.runlog import read_metrics

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
DIGITS = 1e-3
"""Relative difference of the learnt metrics: sums over log-probs that a batched engine rounds in its last bits."""


@dataclass
class Run:
    """A run in ``folder/outputs/tiny_schedule``, and the processes that belong to it."""

    folder: Path
    overrides: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
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
        command = [sys.executable, "-m", "prefix_opd.cli", "train", *SMALL, *self.overrides]
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
        """The child of the command: it holds Ray's driver."""
        pid = self.process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def kill(self, title: str) -> int:
        """SIGKILL the process with this in its title, or the "driver", or an "engine" (the student's or the teacher's).

        Returns its id. Raises StopIteration if there is none.
        """
        if title == "driver":
            pid = self.driver()
        elif title == "engine":  # it has no title of its own, but signs what it logs
            log = self.outputs / "train.log"
            signed = re.findall(r"\(EngineCore pid=(\d+)\)", log.read_text() if log.exists() else "")
            pid = next(int(pid) for pid in reversed(signed) if int(pid) in self.processes())
        else:
            pid = next(pid for pid, shown in sorted(self.processes().items()) if title in shown)
        os.kill(pid, signal.SIGKILL)
        return pid

    def left_behind(self, seconds: float = 30) -> dict[int, str]:
        """Processes of the run that still live so long after its end."""
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
