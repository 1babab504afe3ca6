"""Follow a run from outside: its metrics file and its log, shown as a progress bar."""

from __future__ import annotations

import ctypes
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from prefix_opd.run.folder import LOG_FILE
from prefix_opd.run.log import read_metrics
from prefix_opd.run.stopping import EXIT_ASKED
from prefix_opd.run.warned import NewWarnings

STOPPED = "stopped: "
"""How the line begins with which a run tells why it ended."""
POLL_SECONDS = 0.5
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_MILESTONES = (
    ("worker group kwargs", "starting workers and engines"),
    ("actor and ref model engine initialized", "student's trainer is ready, waiting for the engines"),
    ("all initialize finished", "engines are ready, sending weights and validating"),
)


def run_and_watch(
    command: Sequence[str],
    folder: Path,
    total_steps: int,
    environment: dict[str, str],
    tail_warning: float = math.inf,
) -> int:
    """Run ``command`` with its output in the folder's log, and show how far it is.

    SIGTERM and SIGINT (Ctrl-C) are handed to the command alone: in a session of its own, its Ray processes do not
    get the terminal's. If this process dies the command is asked to end as by SIGTERM.

    Args:
        tail_warning: ``prefix_opd.probe.tail_warning``, above which a probe's ratio is marked.

    Returns:
        The command's exit code; 128 + its number if a signal killed it, as shells have it.
    """
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG_FILE
    with log.open("ab") as output:
        start = output.tell()
        with _started(command, environment, stdout=output, stderr=subprocess.STDOUT) as (process, received):
            _follow(process, folder, log, start, total_steps, console, received, tail_warning)
    code = process.wait()
    if code not in (0, EXIT_ASKED):
        how = f"with exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
        console.print(f"[red]failed[/red] {how}; the end of {log}:", highlight=False, soft_wrap=True)
        for line in cause(log, start):
            console.print("  " + line, markup=False, highlight=False, soft_wrap=True)
    return _told(code, folder, console)


def run_in_sight(command: Sequence[str], folder: Path, environment: dict[str, str]) -> int:
    """Run ``command`` with its output where this process's own goes; signals and exit code as in `run_and_watch`."""
    with _started(command, environment) as (process, _):
        code = process.wait()
    return _told(code, folder, Console())


def _told(code: int, folder: Path, console: Console) -> int:
    """Tell how to go on after a run that did not end by itself; returns the exit code."""
    if code == EXIT_ASKED:
        console.print(f"ended after step {_last_step(folder)} as asked, with a checkpoint", highlight=False)
        console.print("start the same command again to go on from there", highlight=False)
    elif code:
        console.print("start the same command again to go on from the last checkpoint", highlight=False)
    return code if code >= 0 else _BY_SIGNAL - code


@contextmanager
def _started(
    command: Sequence[str], environment: dict[str, str], **output
) -> Iterator[tuple[subprocess.Popen, list[int]]]:
    """The process of a command, and the signals that were handed on to it."""
    process = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_end_with_parent, **output)
    received: list[int] = []
    handlers = {number: signal.signal(number, _hand_on(process, received)) for number in _HANDED_ON}
    try:
        yield process, received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


_BY_SIGNAL = 128
_HANDED_ON = (signal.SIGTERM, signal.SIGINT)


def _hand_on(process: subprocess.Popen, received: list[int]):
    asked: set[int] = set()

    def handler(number: int, _frame) -> None:
        # the run looks for signals once a second, and would take two of a kind for one: the second ends it from here
        process.send_signal(signal.SIGKILL if number in asked else number)  # does nothing if it has ended
        asked.add(number)
        received.append(number)  # told by `_follow`: a handler may have interrupted a print

    return handler


def _end_with_parent() -> None:
    """In the child: Linux sends it SIGTERM when the parent dies, however it dies."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _follow(
    process,
    folder: Path,
    log: Path,
    start: int,
    total_steps: int,
    console: Console,
    received: list[int],
    tail_warning: float,
) -> None:
    began = time.time()
    shown = _last_step(folder)
    # a terminal gets a moving bar, a file or a pipe one line a step
    moving = console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    milestone = ""
    warnings = NewWarnings(log, start)
    with Progress(*columns, console=console, disable=not moving) as progress:
        bar = progress.add_task("importing torch, Ray, verl and vLLM", total=total_steps, completed=max(shown, 0))
        while True:
            ended = process.poll() is not None
            while received:
                told = signal.Signals(received.pop(0)).name
                console.print(f"{told}: handed on to the run, see docs/faults.md", highlight=False, soft_wrap=True)
            if shown < 1 and (found := _milestone(log, start)) != milestone:
                milestone = found
                progress.update(bar, description=milestone)
                if not moving:
                    console.print(f"{time.time() - began:4.0f} s  {milestone}", highlight=False, soft_wrap=True)
            for line in read_metrics(folder) if (folder / "metrics.jsonl").exists() else ():
                if line["step"] > shown:
                    shown = line["step"]
                    told = f"{time.time() - began:4.0f} s  {_one_line(line, tail_warning)}"
                    console.print(told, highlight=False, soft_wrap=True)
                    progress.update(bar, description="training", completed=shown)
            for told in warnings.take():
                console.print(f"warning: {told}", style="yellow", markup=False, highlight=False, soft_wrap=True)
            if ended:
                return
            time.sleep(POLL_SECONDS)


def _one_line(line: dict, tail_warning: float) -> str:
    parts = [f"step {line['step']:>3}"]
    if "prefix_opd/prefix_length" in line:
        parts += [
            f"L {line['prefix_opd/prefix_length']:>5.0f}",
            f"mean length {line['prefix_opd/response_length/mean']:>7.1f}",
            f"cut {line['prefix_opd/ending/cut_fraction']:>4.0%}",
            f"{line['prefix_opd/seconds/step']:.1f} s",
        ]
        if "prefix_opd/reverse_kl/mean" in line:
            parts.insert(-1, f"reverse KL {line['prefix_opd/reverse_kl/mean']:.3f}")
    tail = line.get("prefix_opd/probe/tail_ratio")
    if tail is not None:
        above = tail > tail_warning
        parts.append(f"[bold red]tail x{tail:.2f}, above {tail_warning:g}[/bold red]" if above else f"tail x{tail:.2f}")
    for name, value in line.items():
        if name.startswith("val-core/") and "/mean@" in name:
            parts.append(f"[bold]accuracy {value:.1%}[/bold]")
    return "  ".join(parts)


def _last_step(folder: Path) -> int:
    return max((line["step"] for line in read_metrics(folder)), default=-1)


def _milestone(log: Path, start: int) -> str:
    text = _text(log, start)
    reached = [said for mark, said in _MILESTONES if mark in text]
    return reached[-1] if reached else "importing torch, Ray, verl and vLLM"


def cause(log: Path, start: int, lines: int = 12) -> list[str]:
    """Why a run failed: what it told itself, or else the last error of its log and what stands before it."""
    text = [_ANSI.sub("", line) for line in _text(log, start).splitlines() if line.strip()]
    if told := [line for line in text if line.startswith((STOPPED, "error: "))]:
        return told[-1:]
    marks = [i for i, line in enumerate(text) if re.search(r"\b\w*(Error|Exception|Killed)\b.*: ", line)]
    end = marks[-1] + 1 if marks else len(text)
    return text[max(0, end - lines) : end]


def _text(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")
