"""``prefix-opd advise``."""

from __future__ import annotations

import json

import typer

from prefix_opd.commands import AsJson, Overrides


def advise(
    overrides: Overrides = None,
    prompts: int = typer.Option(16, help="Number of training prompts, one answer each."),
    seed: int = typer.Option(0, help="Sampling seed."),
    as_json: AsJson = False,
) -> None:
    """Say which L a pair of models needs: the signal by position, a schedule that follows it, and its cost.

    \b
      prefix-opd advise experiment=tiny/schedule
      prefix-opd advise experiment=qwen3_1.7b/schedule layout=one_gpu --prompts 32 --json

    Arguments are Hydra overrides. The student answers some training prompts without a cap, and the teacher scores the
    answers; nothing is trained. The advice has not been checked against a comparison of schedules (docs/schedules.md).
    """
    from prefix_opd.base.errors import at_least
    from prefix_opd.config.keys import NUMPY_SEED
    from prefix_opd.launch import prepare

    at_least("--prompts", prompts, 1)
    at_least("--seed", seed, 0, NUMPY_SEED)
    config = prepare(overrides or [])

    from prefix_opd.analysis.advice import advise
    from prefix_opd.analysis.tables import advice_table
    from prefix_opd.base.terminal import console

    found = advise(config, prompts, seed)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    console().print(advice_table(found), highlight=False)
    share = found.flops["advised"] / found.flops["full"]
    print(
        f"{found.flops['advised']:.3g} FLOP with prompts, {share:.0%} of full OPD's; "
        f"{found.hours['advised']:.2g} hours, full OPD {found.hours['full']:.2g} (assumptions: prefix-opd plan)"
    )
    print(" ".join(found.overrides))
