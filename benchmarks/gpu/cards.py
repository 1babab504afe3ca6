"""The machine's cards by nvidia-smi: names, driver, and used memory over time."""

from __future__ import annotations

import contextlib
import datetime
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from prefix_opd.base.processes import run
from prefix_opd.cost.arithmetic import ACCELERATORS

PERIOD_MS = 200


def cards() -> list[str]:
    """Name and driver of each card; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    told = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    rows = [line.rpartition(",") for line in told.stdout.splitlines() if told.returncode == 0 and "," in line]
    return [f"{name.strip()} (driver {driver.strip()})" for name, _, driver in rows]


def peak_flops(card: str) -> float | None:
    """Dense bf16 FLOP/s of a card by its data sheet; None for an unknown one."""
    return next((one.peak for name, one in ACCELERATORS.items() if name != "cpu" and name in card.lower()), None)


@contextlib.contextmanager
def memory_in(file: Path) -> Iterator[None]:
    """Write the used memory of all cards to ``file`` while the block runs; nothing without a driver."""
    if shutil.which("nvidia-smi") is None:
        yield
        return
    query = ["nvidia-smi", "--query-gpu=timestamp,memory.used", "--format=csv,noheader,nounits", "-lms", str(PERIOD_MS)]
    with file.open("w") as out, subprocess.Popen(query, stdout=out, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def peaks(file: Path, ends: list[float]) -> list[float | None]:
    """Most memory of a card, GiB, in each step.

    Args:
        ends: seconds since 1970 at the end of each step. The first step begins with the file.

    Returns:
        None for a step without a sample.
    """
    samples = _samples(file) if file.exists() else {}
    begins = [0.0, *ends]
    found = []
    for begin, end in zip(begins, ends, strict=False):
        within = [most for when, most in samples.items() if begin < when <= end]
        found.append(round(max(within) / 1024, 2) if within else None)
    return found


def _samples(file: Path) -> dict[float, float]:
    """Seconds since 1970 -> MiB of the fullest card. A torn last line is skipped."""
    found: dict[float, float] = defaultdict(float)
    for line in file.read_text().splitlines():
        when, _, used = line.partition(",")
        with contextlib.suppress(ValueError):
            at = datetime.datetime.strptime(when.strip(), "%Y/%m/%d %H:%M:%S.%f").timestamp()
            found[at] = max(found[at], float(used))
    return found
