"""TRL's own environment, made where it is missing."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements-trl.txt")
PACKAGES = ("trl", "transformers", "torch")


class TRLMissing(RuntimeError):
    """TRL could not be installed; the message is the installer's last line."""


def trl_python(folder: Path) -> Path:
    """The interpreter of an environment that has what `REQUIREMENTS` names. Raises TRLMissing."""
    python, stamp = folder / "bin" / "python", folder / ".requirements"
    if not (stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text()):
        uv = str(Path(sys.executable).with_name("uv"))
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        source = ["-r", str(REQUIREMENTS), *_torch_source()]
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *source])
        stamp.write_text(REQUIREMENTS.read_text())
    return python


def trl_releases(folder: Path) -> dict[str, str]:
    """Releases of what the runs of TRL use, from the environment in ``folder``."""
    (packages,) = folder.glob("lib/python*/site-packages")
    found = {one.name: one.version for one in importlib.metadata.distributions(path=[str(packages)])}
    return {"python": packages.parent.name.removeprefix("python"), **{name: found[name] for name in PACKAGES}}


def _torch_source() -> list[str]:
    """Where torch's CPU wheel comes from, as in scripts/setup.sh: a folder that pip knows, else PyTorch's index."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    links = os.environ.get("PIP_FIND_LINKS") or subprocess.run(asked, capture_output=True, text=True).stdout
    folder = (links.split() or [""])[0]
    if folder and any(Path(folder).glob("torch-*cpu*")):
        return ["--find-links", folder]
    return ["--torch-backend", "cpu"]


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or ["it said nothing"]
        raise TRLMissing(f"TRL could not be installed: {lines[-1].strip()}")
