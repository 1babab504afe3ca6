"""Start a run and show its progress, read from the files in its folder."""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from prefix_opd.base.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED
from prefix_opd.base.processes import Child, how_it_ended, standing_beside
from prefix_opd.method import names
from prefix_opd.run import checkpoints
from prefix_opd.run.events import MILESTONE, NewEvents
from prefix_opd.run.folder import LOG_FILE
from prefix_opd.run.ledger import last_step
from prefix_opd.run.log import read_metrics
from prefix_opd.run.stopping import EXIT_ASKED

STOPPED = "stopped: "
"""Start of the line in which a run says why it stopped itself."""
POLL_SECONDS = 0.5
CAUSE_LINES = 12
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_OUT_OF_MEMORY = re.compile(r"(\d+) Workers \(tasks / actors\) killed due to memory pressure")
"""What Ray's raylet (node_manager.cc) writes once a minute, after its memory monitor has killed processes."""


@dataclass(frozen=True)
class News:
    """An update of the progress bar: its position, the text before it, and a line for the console, or none."""

    done: int
    doing: str
    line: str = ""


class View(Protocol):
    """The progress of a process: start and end of the bar."""

    total: int
    done: int

    def news(self) -> Iterator[News]: ...


class Steps:
    """A training run: one line per step."""

    def __init__(self, folder: Path, total: int, tail_warning: float):
        self.folder, self.total, self.tail_warning = folder, total, tail_warning
        self.shown = last_step(folder)
        self.done = max(self.shown, 0)

    def news(self) -> Iterator[News]:
        for line in read_metrics(self.folder):
            if line["step"] > self.shown:
                self.shown = line["step"]
                yield News(self.shown, "training", _one_line(line, self.tail_warning))


def run_and_watch(
    command: Sequence[str],
    folder: Path,
    total_steps: int,
    environment: dict[str, str],
    tail_warning: float = math.inf,
) -> int:
    """Run a training command with its output in the folder's log, and show its progress. Returns its exit code; 128 + N
    if signal N killed it, as in shells.

    A probe's ratio above ``tail_warning`` (``prefix_opd.probe.tail_warning``) is highlighted.
    """
    view = Steps(folder, total_steps, tail_warning)
    return _say_how_to_resume(show(command, folder, environment, view, Console()), folder)


def run_in_sight(command: Sequence[str], folder: Path, environment: dict[str, str]) -> int:
    """Run ``command`` with this process's stdout and stderr; signals and exit code as in `run_and_watch`."""
    with standing_beside(command, environment) as child:
        code = child.wait()
    return _say_how_to_resume(code, folder)


def show(command: Sequence[str], folder: Path, environment: dict[str, str], view: View, console: Console) -> int:
    """Run ``command`` with its output in the folder's log, and show ``view``, milestones, warnings and the cause of
    a failure.

    SIGTERM and SIGINT (Ctrl-C) are forwarded to the command. The command has its own session, so its Ray processes get
    no signal from the terminal. If this process dies, the command receives SIGTERM. The exit code is `run_and_watch`'s.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG_FILE
    events = NewEvents(folder)
    with log.open("ab") as output:
        start = output.tell()
        with standing_beside(command, environment, stdout=output, stderr=subprocess.STDOUT) as child:
            _follow(child, view, events, console)
    code = child.wait()
    if code not in (0, EXIT_ASKED):
        console.print(f"[red]failed[/red] {how_it_ended(code)}; the end of {log}:", highlight=False, soft_wrap=True)
        for line in cause(log, start):
            console.print("  " + line, markup=False, highlight=False, soft_wrap=True)
    return code


def _say_how_to_resume(code: int, folder: Path) -> int:
    """Print how to resume a run that was stopped or failed. Returns its exit code."""
    console = Console(highlight=False)
    if code == EXIT_ASKED:
        console.print(f"ended after step {last_step(folder)} as asked, with a checkpoint")
    if advice := how_to_continue(code, max(checkpoints.saved(folder), default=0)):
        console.print(advice, soft_wrap=True)
    return code


def how_to_continue(code: int, saved_step: int) -> str:
    """What helps after a run ended with ``code``; empty if it finished, or after bad input, whose line says what to do.
    ``saved_step``: of the newest checkpoint; 0 for none."""
    if code in (0, EXIT_BAD_INPUT):
        return ""
    where = (
        f"it continues from the checkpoint of step {saved_step}"
        if saved_step
        else "it has no checkpoint: it begins anew"
    )
    again = f"start the same command again; {where}"
    if code == EXIT_STOPPED:
        return f"fix the cause above, then {again}"
    if code == EXIT_FAILED:
        return f"{again}. If it fails in the same way, the log has the error"
    return again


def _follow(child: Child, view: View, events: NewEvents, console: Console) -> None:
    began = time.time()
    moving = console.is_terminal  # a terminal gets a moving bar, a file or a pipe one line per step
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not moving) as progress:
        bar = progress.add_task("importing torch, Ray, verl and vLLM", total=view.total, completed=view.done)
        ended = False
        while not ended:
            ended = child.has_ended()  # asked first, so that the last iteration reads everything
            for name in child.take_signals():
                console.print(f"{name}: forwarded to the run, see docs/faults.md", highlight=False, soft_wrap=True)
            for event in events.take():
                if event.kind == MILESTONE:
                    progress.update(bar, description=event.text)
                    if not moving:
                        console.print(f"{time.time() - began:4.0f} s  {event.text}", highlight=False, soft_wrap=True)
                else:
                    line = f"warning: step {event.step}: {event.text}"
                    console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
            for news in view.news():
                if news.line:
                    console.print(f"{time.time() - began:4.0f} s  {news.line}", highlight=False, soft_wrap=True)
                progress.update(bar, description=news.doing, completed=news.done)
            if not ended:
                time.sleep(POLL_SECONDS)


def _one_line(line: dict, tail_warning: float) -> str:
    parts = [f"step {line['step']:>3}"]
    if names.PREFIX_LENGTH in line:
        parts += [
            f"L {line[names.PREFIX_LENGTH]:>5.0f}",
            f"mean length {line[names.RESPONSE_LENGTH]:>7.1f}",
            f"cut {line[names.CUT]:>4.0%}",
            f"{line[names.SECONDS_STEP]:.1f} s",
        ]
        if names.REVERSE_KL in line:
            parts.insert(-1, f"reverse KL {line[names.REVERSE_KL]:.3f}")
    tail = line.get(names.TAIL_RATIO)
    if tail is not None:
        above = tail > tail_warning
        parts.append(f"[bold red]tail x{tail:.2f}, above {tail_warning:g}[/bold red]" if above else f"tail x{tail:.2f}")
    parts += [f"[bold]accuracy {share:.1%}[/bold]" for share, _ in names.accuracies(line).values()]
    if missing := line.get(names.VALIDATION_MISSING):
        parts.append(f"[bold red]{missing:.0f} answers missing[/bold red]")
    return "  ".join(parts)


def cause(log: Path, start: int) -> list[str]:
    """Why a run failed: its own message, or else the last error in its log and the lines before it; and Ray's memory
    monitor, whose victims look like engines that die without a word."""
    with log.open("rb") as file:
        file.seek(start)
        read = file.read().decode(errors="replace")
    text = [_ANSI.sub("", line) for line in read.splitlines() if line.strip()]
    killed = sum(int(found[1]) for line in text if (found := _OUT_OF_MEMORY.search(line)))
    memory = (
        f"Ray killed {killed} processes because the machine's memory was full: free some, or lower "
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
    )
    if messages := [line for line in text if line.startswith((STOPPED, "error: "))]:
        return [*messages[-1:], *([memory] if killed else [])]
    marks = [i for i, line in enumerate(text) if re.search(r"\b\w*(Error|Exception|Killed)\b.*: ", line)]
    end = marks[-1] + 1 if marks else len(text)
    return [*text[max(0, end - CAUSE_LINES) : end], *([memory] if killed else [])]
