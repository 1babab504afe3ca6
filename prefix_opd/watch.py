"""Follow a run from outside: its metrics file and its log, shown as a progress bar."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from prefix_opd.runfolder import LOG_FILE
from prefix_opd.runlog import read_metrics

POLL_SECONDS = 0.5
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_MILESTONES = (
    ("worker group kwargs", "starting workers and engines"),
    ("actor and ref model engine initialized", "student's trainer is ready, waiting for the engines"),
    ("all initialize finished", "engines are ready, sending weights and validating"),
)


def run_and_watch(command: Sequence[str], folder: Path, total_steps: int, environment: dict[str, str]) -> int:
    """Run ``command`` with its output in the folder's log, and show how far it is.

    Returns:
        The command's exit code.
    """
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG_FILE
    with log.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            _follow(process, folder, log, start, total_steps, console)
        except KeyboardInterrupt:
            console.print("stopping; a second Ctrl-C ends it at once")
            try:
                process.wait()
            except KeyboardInterrupt:
                process.kill()
    code = process.wait()
    if code:
        console.print(f"[red]failed[/red] with exit code {code}; the end of {log}:", highlight=False)
        for line in cause(log, start):
            console.print("  " + line, markup=False, highlight=False)
        console.print("start the same command again to go on from the last checkpoint", highlight=False)
    return code


def _follow(process, folder: Path, log: Path, start: int, total_steps: int, console: Console) -> None:
    began = time.time()
    shown = _last_step(folder)
    # a terminal gets a moving bar, a file or a pipe one line a step
    moving = console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    milestone = ""
    with Progress(*columns, console=console, disable=not moving) as progress:
        bar = progress.add_task("importing torch, Ray, verl and vLLM", total=total_steps, completed=max(shown, 0))
        while True:
            ended = process.poll() is not None
            if shown < 1 and (found := _milestone(log, start)) != milestone:
                milestone = found
                progress.update(bar, description=milestone)
                if not moving:
                    console.print(f"{time.time() - began:4.0f} s  {milestone}", highlight=False, soft_wrap=True)
            for line in read_metrics(folder) if (folder / "metrics.jsonl").exists() else ():
                if line["step"] > shown:
                    shown = line["step"]
                    console.print(f"{time.time() - began:4.0f} s  {_one_line(line)}", highlight=False, soft_wrap=True)
                    progress.update(bar, description="training", completed=shown)
            if ended:
                return
            time.sleep(POLL_SECONDS)


def _one_line(line: dict) -> str:
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
    """The lines of a log that most likely tell why a run failed: the last error and what stands before it."""
    text = [_ANSI.sub("", line) for line in _text(log, start).splitlines() if line.strip()]
    marks = [i for i, line in enumerate(text) if re.search(r"\b\w*(Error|Exception|Killed)\b.*: ", line)]
    end = marks[-1] + 1 if marks else len(text)
    return text[max(0, end - lines) : end]


def _text(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def python_module(module: str, arguments: Sequence[str]) -> list[str]:
    """A command line for a module of this environment."""
    return [sys.executable, "-m", module, *arguments]
