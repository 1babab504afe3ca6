"""The machine and the commit of a measurement, without host name and paths."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
CODE = ("prefix_opd", "recipe", "requirements-core.txt", "requirements-cpu.txt", "harness/process.py")
"""The files that every measurement depends on."""
CHANGED = "+changes"
GIVEN = "PREFIX_OPD_COMMIT"
"""Environment variable with the commit, for a copy without git."""


def machine() -> dict[str, object]:
    """Processor, cores, memory in GiB, system."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpu": model.group(1) if model else platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit(paths: Sequence[str]) -> str | None:
    """The last commit that touched `CODE` or ``paths``.

    `CHANGED` is appended if files differ from the commit. Outside git: what `GIVEN` says, or a hash of these files.
    """
    try:
        last = _git("log", "-1", "--format=%h", "--", *CODE, *paths)
        changed = _git("status", "--porcelain", "--", *CODE, *paths)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(GIVEN) or _hash_of_files((*CODE, *paths))
    return last + (CHANGED if changed else "") if last else None


def _hash_of_files(paths: Sequence[str]) -> str:
    places = [ROOT / path for path in paths]
    files = {file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()}
    found = hashlib.sha256()
    for file in sorted(files):
        if "__pycache__" not in file.parts:
            found.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return f"files-{found.hexdigest()[:8]}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
