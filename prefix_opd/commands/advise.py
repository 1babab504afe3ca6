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
    """Suggest a schedule for a pair of models: reverse KL by position, schedules of L, what they keep and cost.

    \b
      prefix-opd advise experiment=tiny/schedule
      prefix-opd advise experiment=qwen3_1.7b/schedule layout=one_gpu --prompts 32 --json

    Arguments are Hydra overrides. The student answers some training prompts without a cap. The teacher scores the
    answers and answers the same prompts; nothing is trained. Advised is the schedule that trains on the largest share
    of the signal for its share of full OPD's FLOP (docs/schedules.md).
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
        shares = f"{course.signal:.0%} of the signal with {course.flops / full.flops:.0%} of full OPD's FLOP"
        cost = f"{course.flops:.3g} FLOP, {course.hours:.2g} hours"
        print(f"\n{name}{' (advised)' if name == found.advised else ''}: {shares}; {cost}")
        print(" ".join(course.overrides))
    if found.refused:
        print(f"\nauto and topk_full do not work with these settings: {found.refused}")
    print(f"\nadvised: {found.advised}, with the most signal a FLOP")
    if found.advised == "auto":
        told = f"with {ENOUGH:.0%} of its FLOP, in the mean of three seeds"
        print(f"auto reached full OPD's accuracy on both miniatures {told}. To stop there:")
        print(f"prefix_opd.flop_budget={ENOUGH * full.flops:.3g}")
    elif found.advised in ("topk_full", "full"):
        print("No schedule keeps as large a share of the signal as of the FLOP: prefixes are not likely to pay.")
    print("The same number of updates for all; hours by the assumptions of prefix-opd plan.")
