"""``prefix-opd doctor``."""

from __future__ import annotations

import json

import typer

from prefix_opd.commands import AsJson, Overrides


def doctor(
    overrides: Overrides = None,
    engines: bool = typer.Option(False, "--engines", help="Also start the vLLM engines."),
    as_json: AsJson = False,
) -> None:
    """Check what makes a distillation run fail silently: tokens, prompts, data, memory, versions, GPUs.

    \b
      prefix-opd doctor experiment=tiny/schedule
      prefix-opd doctor experiment=tiny/schedule --engines
      prefix-opd doctor experiment=qwen3_8b/schedule layout=node_8x80gb --json

    Arguments are Hydra overrides, as for `train`. --engines also starts vLLM for the student and then for the teacher,
    and lets each score the other's tokens. With platform=gpu it also checks the machine: driver, attention kernels,
    processes that share a GPU, host memory, /dev/shm, CPUs. Exit code 1: a check failed. 2: bad input.
    """
    from prefix_opd.checks.doctor import Status, diagnose, worst
    from prefix_opd.checks.together import unused
    from prefix_opd.config.compose import compose
    from prefix_opd.cpu.environment import set_environment
    from prefix_opd.verl_plugin import our_run

    config = compose(overrides or [])
    if config.platform == "cpu":
        set_environment()
    our_run.begin(our_run.switched_off(config))
    findings = [*diagnose(config, engines), *unused(config, overrides or [])]
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        from prefix_opd.base.terminal import console
        from prefix_opd.checks.finding import render

        console(width=120).print(render(findings))
    raise typer.Exit(1 if worst(findings) is Status.FAIL else 0)
