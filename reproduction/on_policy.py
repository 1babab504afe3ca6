"""An on-policy run: a shipped experiment with the seed, length and validations of the reproduction."""

from __future__ import annotations

from reproduction.arms import MOST_UPDATES, Run

POSITION_BINS = 32
"""Bins of the reverse KL by position, 6 tokens each."""
PROBE_PROMPTS = 16
"""Training prompts that the probe samples uncapped at each validation, without training on them."""


def overrides(run: Run) -> list[str]:
    """The Hydra overrides of a run, as for `prefix-opd train`."""
    return [
        f"experiment={run.arm.experiment}",
        *run.arm.more,
        f"trainer.experiment_name={run.name}",
        f"trainer.default_local_dir='{run.folder.absolute()}'",
        f"trainer.save_freq={run.validate_every}",
        # not trainer.max_actor_ckpt_to_keep: verl empties the old folder before the new one is complete
        "prefix_opd.checkpoint.keep_last=1",
        "prefix_opd.checkpoint.keep_best=false",
        f"data.seed={run.seed}",
        f"actor_rollout_ref.rollout.seed={run.seed}",
        f"data.val_max_samples={run.problems}",
        *([f"actor_rollout_ref.actor.optim.lr={run.lr}"] if run.lr else []),
        *_length(run),
        *_signals(run),
    ]


def _length(run: Run) -> list[str]:
    if run.budget is None:
        return [f"trainer.total_training_steps={run.updates}"]
    return [
        f"prefix_opd.flop_budget={run.budget}",
        f"trainer.total_training_steps={MOST_UPDATES}",
        f"prefix_opd.schedule.over={run.updates}",  # schedules grow over as many updates as without a budget
    ]


def _signals(run: Run) -> list[str]:
    """Validations, probe and bins. Those that a schedule observes are its experiment's own."""
    validations = [f"trainer.test_freq={run.validate_every}"]
    if run.arm.observes:
        return validations if run.arm.observes == "probe" else []
    probed = run.arm.probed and not run.contends
    return [
        *validations,
        f"prefix_opd.position_bins={POSITION_BINS}",
        f"prefix_opd.probe.every={run.validate_every if probed else 0}",
        f"prefix_opd.probe.prompts={PROBE_PROMPTS}",
    ]


def train(run: Run) -> None:
    """Train to the end, from the last checkpoint if there is one. Call this in a separate process."""
    from prefix_opd import launch
    from prefix_opd.run.folder import check_same_run

    config = launch.prepare(overrides(run))
    check_same_run(config)
    launch.run(config)
