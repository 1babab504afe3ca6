"""Run an evaluation and show how far it is, from the files that it writes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from prefix_opd.evaluation.record import PARTS, PROGRESS_FILE
from prefix_opd.run.folder import LOG_FILE
from prefix_opd.run.follow import POLL_SECONDS, cause

STARTING = "starting workers and vLLM"


def run_and_follow(command: Sequence[str], folder: Path, problems: int, done: int, environment: dict[str, str]) -> int:
    """Run ``command`` with its output in the folder's log; a bar over ``problems``, of which ``done`` were done.

    Returns:
        The command's exit code.
    """
    console = Console(stderr=True)
    (folder / PROGRESS_FILE).unlink(missing_ok=True)
    log = folder / LOG_FILE
    with log.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            _follow(process, folder, problems, done, console)
        except KeyboardInterrupt:
            console.print("stopping; a second Ctrl-C ends it at once")
            try:
                process.wait()
            except KeyboardInterrupt:
                process.kill()
    code = process.wait()
    if code:
        console.print(f"[red]stopped[/red] with exit code {code}; the end of {log}:", highlight=False)
        for line in cause(log, start):
            console.print("  " + line, markup=False, highlight=False)
        console.print("start the same command again to go on with what is left", highlight=False)
    return code


def _follow(process: subprocess.Popen, folder: Path, problems: int, done: int, console: Console) -> None:
    moving = console.is_terminal  # a file or a pipe gets a line a chunk
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began, parts = time.time(), _parts(folder)
    with Progress(*columns, console=console, disable=not moving) as progress:
        bar = progress.add_task(STARTING, total=problems, completed=done)
        while process.poll() is None:
            found = read_progress(folder)
            if found:
                progress.update(bar, description=found["benchmark"], completed=found["done"])
            if _parts(folder) != parts:
                parts = _parts(folder)
                if not moving and found:
                    seconds = time.time() - began
                    console.print(f"{seconds:4.0f} s  {found['done']} of {problems} problems", highlight=False)
            time.sleep(POLL_SECONDS)
        found = read_progress(folder)
        if found:
            progress.update(bar, completed=found["done"])


def read_progress(folder: Path) -> dict | None:
    """``benchmark`` and ``done`` (problems, of all benchmarks), or none if nothing was asked yet."""
    try:
        return json.loads((folder / PROGRESS_FILE).read_text())
    except (OSError, ValueError):
        return None


def _parts(folder: Path) -> int:
    return sum(1 for _ in (folder / PARTS).glob("*.parquet"))
