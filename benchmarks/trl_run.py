"""A case in TRL, in a separate environment, with the models, prompts, batch and cap of the runs of verl."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.steps import step_line
from harness.process import LOG, run_command, run_forked

SCRIPT, REQUIREMENTS = (Path(__file__).with_name(name) for name in ("trl_script.py", "requirements-trl.txt"))
PACKAGES = ("trl", "transformers", "torch")


class TRLMissing(RuntimeError):
    """TRL could not be installed; the message is the installer's last line."""


def run_trl(case: Case, folder: Path, models: dict[str, Path], environment: Path, timeout: float) -> dict[str, Any]:
    """Run a case as `benchmarks.verl_run.run_verl`; returns its steps and the releases of the packages that ran.

    Args:
        environment: TRL's environment; it is created if missing.

    Raises:
        RunFailed: the run failed or took too long.
        TRLMissing: TRL could not be installed.
    """
    python = trl_python(environment)
    settings, out = folder / "settings.json", folder / "steps.jsonl"
    run_forked(functools.partial(_write_settings, case, models, settings), folder / LOG, timeout)
    run_command([str(python), str(SCRIPT), str(settings), str(out)], folder / LOG, {}, timeout)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return {
        "steps": [
            step_line(case, models, line["step"], line["seconds"], line["tokens"], line["prompt"], {}) for line in lines
        ],
        "versions": trl_releases(environment),
    }


def _write_settings(case: Case, models: dict[str, Path], file: Path) -> None:
    """In a fork: reading parquet starts threads."""
    file.write_text(json.dumps(_settings(case, models)))


def _settings(case: Case, models: dict[str, Path]) -> dict[str, Any]:
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    from prefix_opd.config.settings import PromptSettings
    from prefix_opd.method.prompt import template_with_ending
    from prefix_opd.miniature.paths import tiny_path

    needed = case.steps * case.prompts
    prompts = pq.read_table(tiny_path("train"), columns=["prompt"])["prompt"].to_pylist()[:needed]
    template = AutoTokenizer.from_pretrained(models["student"]).chat_template
    return {
        "trainer": case.system,
        **{role: str(path) for role, path in models.items()},
        "chat_template": template_with_ending(template, PromptSettings().ending),
        "prompts": [prompt for prompt in prompts for _ in range(case.rollouts)],
        "cap": case.caps[0],
        "sequences": case.sequences,
        "steps": case.steps,
        "lr": 3e-4,
    }


def trl_python(folder: Path) -> Path:
    """The interpreter of an environment with `REQUIREMENTS` installed. Raises TRLMissing."""
    python, stamp = folder / "bin" / "python", folder / ".requirements"
    if not (stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text()):
        uv = str(Path(sys.executable).with_name("uv"))
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        source = ["-r", str(REQUIREMENTS), *_torch_source()]
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *source])
        stamp.write_text(REQUIREMENTS.read_text())
    return python


def trl_releases(folder: Path) -> dict[str, str]:
    """Releases of TRL's packages in the environment in ``folder``."""
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
