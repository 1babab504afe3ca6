"""``prefix-opd plan``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import typer

from prefix_opd.commands import AsJson, Overrides


def plan(
    overrides: Overrides = None,
    as_json: AsJson = False,
    paper: bool = typer.Option(False, "--paper", help="Show which of the paper's FLOP figures its formula gives."),
    mean_prompt: float = typer.Option(None, help="Mean prompt length, tokens."),
    mean_teacher_prompt: float = typer.Option(None, help="Mean length of the teacher's own prompts, tokens."),
    mean_response: float = typer.Option(None, help="Mean response length without a cap, tokens."),
    response_histogram: Path = typer.Option(
        None, help='Response lengths without a cap: JSON {"length": count} or CSV lines length,count.'
    ),
    layouts: bool = typer.Option(False, "--layouts", help="Compare all layouts for this run."),
    gpus: int = typer.Option(None, min=1, help="With --layouts: number of GPUs at hand."),
    accelerator: str = typer.Option(None, help="a100 (default), h100, h200, l4, rtx4090 or cpu."),
    utilisation: list[str] = typer.Option(None, help="PHASE=SHARE of the peak, e.g. sampling=0.1. Repeatable."),
    tflops: list[str] = typer.Option(None, help="PHASE=TFLOP/s of one GPU, as measured. Repeatable."),
) -> None:
    """Estimate the cost of a run before it starts: tokens, FLOP, memory and hours, beside full OPD.

    \b
      prefix-opd plan experiment=qwen3_8b/prefix_256 layout=node_8x80gb
      prefix-opd plan experiment=qwen3_8b/prefix_256 trainer.total_training_steps=10 --json
      prefix-opd plan experiment=qwen3_8b/full layout=node_8x80gb --mean-response 9000
      prefix-opd plan experiment=qwen3_8b/schedule layout=multi_node --accelerator h100 --tflops sampling=60
      prefix-opd plan experiment=qwen3_1.7b/schedule --layouts --gpus 1 --accelerator h100
      prefix-opd plan --paper

    Arguments are Hydra overrides. No weights are read. The sizes of Qwen3-8B(-Base), 4B, 1.7B(-Base) and 0.6B-Base ship
    with the package; other models need the config.json of their folder. Hours assume a share of the accelerator's peak
    for each phase: sampling, student_scoring, teacher_scoring, update. Pass measured values with --utilisation or
    --tflops.
    """
    from prefix_opd.base.terminal import console

    if paper:
        from prefix_opd.base.errors import UserError
        from prefix_opd.cost.paper_check import check_paper
        from prefix_opd.cost.view import render_paper

        unread = {" ".join(overrides or []): overrides, "--layouts": layouts, "--gpus": gpus}
        unread |= {"--mean-prompt": mean_prompt, "--mean-teacher-prompt": mean_teacher_prompt}
        unread |= {"--mean-response": mean_response, "--response-histogram": response_histogram}
        unread |= {"--accelerator": accelerator, "--utilisation": utilisation, "--tflops": tflops}
        if given := next((name for name, value in unread.items() if value not in (None, False, [])), None):
            raise UserError(given, "is not read with --paper", "leave the one or the other out")
        checks = check_paper()
        content, shown = [check.as_dict() for check in checks], render_paper(checks)
    else:
        from prefix_opd.cost.record import Assumptions

        assumptions = Assumptions(
            mean_prompt=mean_prompt,
            mean_teacher_prompt=mean_teacher_prompt,
            responses=_responses(mean_response, response_histogram),
            accelerator=accelerator,
            utilisation=_by_phase("utilisation", utilisation),
            tflops=_by_phase("tflops", tflops),
        )
        if layouts:
            from prefix_opd.checks import layouts as of_layouts

            rows = of_layouts.compare(overrides or [], assumptions, gpus)
            content = of_layouts.as_dict(rows)
            shown = of_layouts.render(rows, accelerator or of_layouts.DEFAULT_ACCELERATOR)
        else:
            content, shown = _plan(overrides or [], assumptions, gpus)
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        console().print(shown, highlight=False)


def _plan(overrides: list[str], assumptions, gpus: int | None):
    from prefix_opd.base.errors import UserError
    from prefix_opd.checks.cluster import check_parallel_sizes
    from prefix_opd.checks.sizes import check_lengths
    from prefix_opd.checks.surface import check_surface
    from prefix_opd.checks.teachers import source_shares
    from prefix_opd.config.compose import compose
    from prefix_opd.config.settings import Settings
    from prefix_opd.cost.plan import plan
    from prefix_opd.cost.view import render
    from prefix_opd.verl_plugin import our_run

    if gpus is not None:
        raise UserError(f"--gpus {gpus}", "is read only with --layouts", "add it, or set trainer.n_gpus_per_node")
    config = compose(overrides)
    check_surface(config)
    check_parallel_sizes(config)
    check_lengths(config, Settings.from_node(config.prefix_opd))
    found = plan(config, replace(assumptions, source_shares=source_shares(config)))
    our_run.switched_off(config)  # raises UserError for an invalid switch
    return found.as_dict(), render(found)


def _responses(mean: float | None, histogram: Path | None):
    from prefix_opd.base.errors import UserError
    from prefix_opd.cost.arithmetic import ResponseLengths, lengths_from_file

    if mean is not None and histogram is not None:
        raise UserError("--mean-response", "is given with --response-histogram", "give one of them")
    if histogram is not None:
        return lengths_from_file(histogram)
    if mean is None:
        return ResponseLengths()
    if not 1 <= mean < float("inf"):
        raise UserError(f"--mean-response {mean}", "must be at least 1 and finite")
    return ResponseLengths(((mean, 1.0),))


def _by_phase(option: str, pairs: list[str] | None) -> dict[str, float]:
    from prefix_opd.base.errors import UserError

    found = {}
    for pair in pairs or []:
        phase, _, value = pair.partition("=")
        try:
            found[phase] = float(value)
        except ValueError:
            raise UserError(f"--{option} {pair}", "is not PHASE=NUMBER", f"e.g. --{option} sampling=0.1") from None
    return found
