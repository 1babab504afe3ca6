"""Start-up by phase and process, and memory by process, of a run's process tree.

Memory is the proportional set size (PSS): pages that several processes share, as the forked processes of a CPU run do,
count once.
"""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

LOOK_SECONDS = 0.25
MEMORY_SECONDS = 2.0
TRAINER = "ray::TaskRunner"

_LOG_NAME = re.compile(r"\((\w+) pid=(\d+)\)")
"""Ray and vLLM put a process's name and id before what it prints."""


@dataclass
class Seen:
    """One process."""

    name: str
    first: float
    """Seconds after launch at which it was first seen."""
    named: float
    """Seconds after launch at which it was first seen under its present name."""
    cpu: float = 0.0
    """CPU seconds until the end of the first step."""
    memory: float = 0.0
    """Most proportional memory, MiB."""


@dataclass
class Observer:
    """Watches a process tree from a thread."""

    steps: Path
    """The file that gets a line at the end of the first step."""
    seen: dict[int, Seen] = field(default_factory=dict)
    peak: float = 0.0
    """Most proportional memory of all processes at one time, MiB."""
    first_step: float | None = None
    """Seconds after launch at which the first step was seen to have ended."""

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        """Watch the process of this id and its descendants."""
        self.launched = time.monotonic()
        self._stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(psutil.Process(pid),), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _watch(self, root: psutil.Process) -> None:
        memory_due = 0.0
        while not self._stop.wait(LOOK_SECONDS):
            now = time.monotonic() - self.launched
            try:
                processes = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                self._look(process, root.pid, now)
            if self.first_step is None and self.steps.exists() and self.steps.stat().st_size:
                self.first_step = now
            if now >= memory_due:
                self._weigh(processes)
                memory_due = now + MEMORY_SECONDS

    def _look(self, process: psutil.Process, root: int, now: float) -> None:
        try:
            name = "launcher" if process.pid == root else _short(process.cmdline())
            cpu = sum(process.cpu_times()[:2])
        except psutil.Error:
            return
        if not name:  # it is ending
            return
        seen = self.seen.setdefault(process.pid, Seen(name, now, now))
        if name != seen.name:
            seen.name, seen.named = name, now
        if self.first_step is None:
            seen.cpu = cpu

    def _weigh(self, processes: list[psutil.Process]) -> None:
        total = 0.0
        for process in processes:
            try:
                memory = process.memory_full_info().pss / 2**20
            except psutil.Error:
                continue
            total += memory
            if process.pid in self.seen:
                self.seen[process.pid].memory = max(self.seen[process.pid].memory, memory)
        self.peak = max(self.peak, total)

    def found(self, log: str, first_step_seconds: float) -> dict[str, Any]:
        """Phases of the start-up, and the processes by name.

        Args:
            log: the run's output, from which processes without a title get their names.
            first_step_seconds: duration of the first step.
        """
        for name, pid in _LOG_NAME.findall(log):
            if int(pid) in self.seen and not self.seen[int(pid)].name.startswith("ray::"):
                self.seen[int(pid)].name = name
        return {
            "start_up": self._phases(first_step_seconds),
            "processes": self._processes(),
            "peak_memory_mib": round(self.peak),
        }

    def _phases(self, first_step_seconds: float) -> dict[str, float]:
        """Seconds from one mark to the next: launch, Ray's first process, the trainer's, the last engine, steps."""
        ray = min(seen.first for seen in self.seen.values() if seen.name == "gcs_server")
        trainer = min(seen.named for seen in self.seen.values() if seen.name == TRAINER)
        engine = max(seen.first for seen in self.seen.values() if seen.name == "EngineCore")
        ready = self.first_step - first_step_seconds
        marks = {
            "compose, check, import": ray,
            "start Ray": trainer,
            "start trainer and engine processes": engine,
            "load models and engines": ready,
            "first step": self.first_step,
        }
        return {
            name: round(end - begin, 2) for (name, end), begin in zip(marks.items(), [0, *marks.values()], strict=False)
        }

    def _processes(self) -> list[dict[str, Any]]:
        """Processes grouped by name, most memory first: count, total MiB, CPU seconds until the end of the first step,
        and the start of the first and of the last."""
        groups: dict[str, list[Seen]] = defaultdict(list)
        for seen in self.seen.values():
            groups[seen.name].append(seen)
        rows = [
            {
                "name": name,
                "count": len(group),
                "memory_mib": round(sum(seen.memory for seen in group)),
                "cpu_seconds": round(sum(seen.cpu for seen in group), 1),
                "started": [round(pick(seen.first for seen in group), 1) for pick in (min, max)],
            }
            for name, group in groups.items()
        ]
        return sorted(rows, key=lambda row: -row["memory_mib"])


def _short(command: list[str]) -> str:
    """A process's name: Ray's title, or the last part of its program's path."""
    title = command[0] if command else ""
    if "TaskRunner" in title:  # ours and verl's; Ray titles it by its class or by the method that runs
        return TRAINER
    if title.startswith("ray::"):
        return title.split(".")[0].split("(")[0].strip()
    scripts = [Path(word).name for word in command[:6] if word.endswith((".py", "_server", "raylet"))]
    if "-IS" in command[:3]:
        return "stand-in for an interpreter"
    return scripts[0] if scripts else Path(title).name
