"""A case in TRL, beside the runs of verl: the same models, prompts, batch and cap."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.process import run_forked, run_process
from benchmarks.steps import step_line
from benchmarks.trl_env import trl_python, trl_releases

SCRIPT = Path(__file__).with_name("trl_script.py")


def run_trl(case: Case, folder: Path, models: dict[str, Path], environment: Path, timeout: float) -> dict[str, Any]:
    """Run a case and read its steps, and the releases of what ran.

    Args:
        folder: of this run, empty.
        models: folders of student and teacher.
        environment: TRL's environment, made where it is missing.
        timeout: seconds.

    Raises:
        RunFailed: the run did not end well.
        TRLMissing: TRL could not be installed.
    """
    python = trl_python(environment)
    settings, out = folder / "settings.json", folder / "steps.jsonl"
    run_forked(functools.partial(_write_settings, case, models, settings), folder, timeout)
    run_process([str(python), str(SCRIPT), str(settings), str(out)], folder, {}, timeout)
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
