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
    """Suggest a schedule for a pair of models: reverse KL by position, two schedules of L, and their costs.

    \b
      prefix-opd advise experiment=tiny/schedule
      prefix-opd advise experiment=qwen3_1.7b/schedule layout=one_gpu --prompts 32 --json

    Arguments are Hydra overrides. The student answers some training prompts without a cap. The teacher scores the
    answers and answers the same prompts; nothing is trained. `auto` needed the least FLOP in the comparisons of
    docs/schedules.md, on tiny models.
    """
    from prefix_opd.base.errors import at_least
    from prefix_opd.config.keys import NUMPY_SEED
    from prefix_opd.launch import prepare

    at_least("--prompts", prompts, 1)
    at_least("--seed", seed, 0, NUMPY_SEED)
    given = overrides or []
    config = prepare(given)

    from prefix_opd.analysis.advice import ENOUGH, advise
    from prefix_opd.analysis.tables import advice_table
    from prefix_opd.base.terminal import console

    found = advise(config, prompts, seed, lambda more: prepare([*given, *more]))
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    full = found.courses["full"]
    console().print(advice_table(found), highlight=False)
    for name, course in found.courses.items():
        share = course.flops / full.flops
        print(f"\n{name}: {course.flops:.3g} FLOP, {share:.0%} of full OPD's; {course.hours:.2g} hours")
        print(" ".join(course.overrides))
    if found.refused:
        print(f"\nauto does not work with these settings: {found.refused}")
    else:
        told = f"with {ENOUGH:.0%} of its FLOP, in the mean of three seeds"
        print(f"\nauto reached full OPD's accuracy on both miniatures {told}. To stop there:")
        print(f"prefix_opd.flop_budget={ENOUGH * full.flops:.3g}")
    print("\nThe same number of updates for all; hours by the assumptions of prefix-opd plan.")
