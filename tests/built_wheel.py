"""Build the wheel from a copy of this checkout, and run a command from the wheel alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHIPPED = ("prefix_opd", "recipe")
BESIDE = ("benchmarks", "harness", "reproduction", "tests")
"""Packages that are not in the wheel."""


def build(folder: Path) -> Path:
    """Build and unpack the wheel, without leftovers of earlier builds. Returns the folder of the unpacked wheel."""
    source = folder / "source"
    for name in (*SHIPPED, *BESIDE):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements-core.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-w", ".."]
    ran = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def run(unpacked: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Python in an empty folder, with the wheel ahead of the installed packages."""
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
