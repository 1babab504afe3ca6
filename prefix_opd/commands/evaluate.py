"""``prefix-opd evaluate``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

CHUNK = 256


def evaluate(
    target: str = typer.Argument(
        ..., metavar="MODEL_OR_RUN", help="A model's or LoRA adapter's folder, a hub id, or a run's folder."
    ),
    rest: list[str] = typer.Argument(
        None, metavar="[BENCHMARK]... [-- OVERRIDE]...", help="Benchmarks, then Hydra overrides (key=value)."
    ),
    data: Path = typer.Option(Path("data"), help="Folder of the prepared sets, NAME/test.parquet."),
    out: Path = typer.Option(None, help="Output folder; RUN/evaluation/step_N or evaluations/MODEL by default."),
    step: int = typer.Option(None, help="Checkpoint of a run; the last by default."),
    k: int = typer.Option(None, help="Samples per problem; 16 for AIME, 4 for others by default."),
    limit: int = typer.Option(None, help="Number of problems of each benchmark, from the first."),
    temperature: float = typer.Option(1.0, help="Sampling temperature."),
    top_p: float = typer.Option(1.0, help="Sampling top-p."),
    max_tokens: int = typer.Option(
        None, help="Longest response in tokens; 16384 by default, 192 for tiny, 336 for cells."
    ),
    seed: int = typer.Option(0, help="Sampling seed."),
    teacher: str = typer.Option(None, help="Model whose end tokens also stop a response, as in training."),
    gpus: int = typer.Option(None, help="GPUs per node."),
    chunk: int = typer.Option(CHUNK, help="Problems per batch; a stop loses at most one batch."),
    check: bool = typer.Option(
        False, "--check", help="Check the configuration, start nothing but the export of a run."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print results.json instead of the table."),
    verbose: bool = typer.Option(False, "--verbose", help="Show verl's output instead of the progress bar."),
) -> None:
    """Evaluate a model or a run with verl's validation. Responses are never capped by a prefix.

    \b
      prefix-opd evaluate outputs/tiny_schedule tiny
      prefix-opd evaluate outputs/qwen3_8b_schedule aime2024 math500 --step 60
      prefix-opd evaluate Qwen/Qwen3-8B-Base math500 --teacher Qwen/Qwen3-8B --gpus 8
      prefix-opd evaluate outputs/qwen3_8b_full aime2024 -- layout=node_8x80gb

    Benchmarks: math500, aime2024, aime2025, gpqa-main, gpqa-diamond and mmlu-pro as written by `prefix-opd prepare`,
    parquet files with the same columns, tiny or cells. Without one, all prepared sets are used. A stopped evaluation
    continues when the same command is started again. Writes responses.parquet (every response) and results.json (the
    table, the settings, the data and the versions), which `prefix-opd compare` shows beside the paper's rows.
    """
    from prefix_opd.base.errors import UserError, at_least
    from prefix_opd.evaluation.benchmarks import MAX_TOKENS, MINIATURES, Sampling, find
    from prefix_opd.evaluation.config import check_overrides, evaluation_config
    from prefix_opd.evaluation.target import check_target, open_target

    # a Hydra override contains "=" or begins with ~; the name of a benchmark does neither
    overrides = [word for word in rest or [] if "=" in word or word.startswith("~")]
    names = [word for word in rest or [] if word not in overrides]
    if max_tokens is None:
        max_tokens = MINIATURES[names[0]][1] if names and names[0] in MINIATURES else MAX_TOKENS
    sampling = Sampling(temperature, top_p, max_tokens, seed)
    for flag, value in {"--chunk": chunk, "--gpus": gpus, "--step": step}.items():
        at_least(flag, value, 1)
    check_overrides(overrides)
    benchmarks = find(names, data, k, limit)
    for one in benchmarks:
        if temperature == 0 and one.samples > 1:
            raise UserError("--temperature=0", f"would give {one.samples} equal samples of each problem", "add --k 1")
    check_target(target, step)
    trusted = any(word.lstrip("+") == "actor_rollout_ref.model.trust_remote_code=true" for word in overrides)
    chosen = open_target(target, step, trusted)
    folder = (out or chosen.out).expanduser()
    config = evaluation_config(chosen, benchmarks, sampling, folder, chunk, gpus, teacher, overrides)
    raise typer.Exit(_run(config, plan_of(config, chosen, benchmarks, sampling), folder, check, as_json, verbose))


def plan_of(config, target, benchmarks, sampling) -> dict[str, Any]:
    """Content of ``evaluation.json``. ``same`` must not change within a folder; the rest is information."""
    from prefix_opd.analysis.compare import paper_run
    from prefix_opd.config.keys import ONE_TURN

    settings, student = config.prefix_opd, target.model.path
    if target.run_config is not None:
        student = str(target.run_config.actor_rollout_ref.model.path)
    reward, loop = config.reward.custom_reward_function, config.actor_rollout_ref.rollout.agent.default_agent_loop
    return {
        "about": {
            "name": target.name,
            "model": student,
            "checkpoint": str(config.actor_rollout_ref.model.path),
            "step": target.step,
            "lora": target.lora.label if target.lora else None,
            "flop": target.flop,
            "hours": target.hours,
            "paper_run": (paper_run(target.run_config) or "") if target.run_config is not None else None,
        },
        "same": {
            "model": target.fingerprint,
            **asdict(sampling),
            "top_k": config.actor_rollout_ref.rollout.val_kwargs.top_k,
            "prompt_ending": reward.reward_kwargs.get("prompt_ending"),
            "stop_token_ids": list(settings.stop_token_ids),
            "grader": f"{reward.path}:{reward.name}",
            "agent_loop": None if loop == ONE_TURN else loop,  # unknown to earlier versions
        },
        "benchmarks": {
            one.name: {
                "path": str(one.path.absolute()),
                "problems": len(one.rows),
                "manifest": one.manifest,
                "same": {"k": one.samples, "limit": one.limit, "sha256": one.sha256},
            }
            for one in benchmarks
        },
    }


def _run(config, plan: dict[str, Any], folder: Path, check: bool, as_json: bool, verbose: bool) -> int:
    from rich.console import Console

    from prefix_opd.base.files import write_json
    from prefix_opd.base.processes import python_module, standing_beside
    from prefix_opd.base.redaction import save_config
    from prefix_opd.checks.cluster import check_machine
    from prefix_opd.commands.train import QUIET
    from prefix_opd.evaluation.follow import run_and_follow
    from prefix_opd.evaluation.record import PLAN_FILE, check_same, done, hold
    from prefix_opd.run.folder import CONFIG_FILE
    from prefix_opd.verl_plugin import our_run

    our_run.switched_off(config)  # raises UserError for an invalid switch
    told = Console(stderr=True)
    asked = plan["benchmarks"]
    plan = check_same(folder, plan)
    problems = sum(one["problems"] for one in asked.values())
    responses = sum(one["problems"] * one["same"]["k"] for one in asked.values())
    finished = sum(len(done(folder, name, one["same"]["k"])) for name, one in asked.items())
    size = f"{problems} problems, {responses} responses, {finished} problems are done; output folder {folder}"
    if check:
        told.print(f"nothing wrong found: {size}", highlight=False, soft_wrap=True)
        return 0
    if finished < problems:
        check_machine(config)
    told.print(size, highlight=False, soft_wrap=True)
    hold(folder).close()
    write_json(folder / PLAN_FILE, plan)
    if finished < problems:
        save_config(config, folder / CONFIG_FILE)
        command = python_module("recipe.prefix_opd.main_evaluate", [str(folder)])
        environment = {**QUIET, **os.environ}
        if verbose:
            with standing_beside(command, environment) as child:
                code = child.wait()
        else:
            code = run_and_follow(command, folder, problems, finished, environment)
        if code:
            return code
    _show(folder, plan, as_json)
    return 0


def _show(folder: Path, plan: dict[str, Any], as_json: bool) -> None:
    from prefix_opd.base.terminal import console
    from prefix_opd.evaluation.record import RESPONSES_FILE
    from prefix_opd.evaluation.table import RESULTS_FILE, render, write_results

    rows, content = write_results(folder, plan)
    if as_json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    same, about = plan["same"], plan["about"]
    step = f", step {about['step']}" if about["step"] else ""
    caption = (
        f"temperature {same['temperature']:g}, top-p {same['top_p']:g}, at most {same['max_tokens']} tokens, stopped "
        f"by token {', '.join(map(str, same['stop_token_ids']))}; the interval is a bootstrap over problems, "
        "Wilson's for one answer each; ended: by themselves, cut: at the token limit, tokens: mean length"
    )
    out = console()
    out.print(render(f"{about['name']}{step}", rows, caption), highlight=False)
    for name, row in rows.items():
        if row.rejected:
            out.print(f"warning: {name}: {row.rejected}", style="yellow", highlight=False, soft_wrap=True)
        if row.ungraded:
            out.print(f"{name}: {row.ungraded} responses have no true answer and count as wrong", highlight=False)
    left = [name for name in plan["benchmarks"] if name not in rows]
    if left:
        out.print(f"not finished and left out: {', '.join(left)}", highlight=False)
    out.print(f"results {folder / RESULTS_FILE} and {folder / RESPONSES_FILE}", highlight=False, soft_wrap=True)
