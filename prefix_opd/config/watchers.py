"""Settings of the watchers, which look at every update for failures that stay silent."""

from __future__ import annotations

from typing import ClassVar, Literal

from prefix_opd.base.fields import Fields, Position


class Watcher(Fields):
    """A quantity that is checked before an update."""

    threshold: float = 0.0
    """Upper bound; `WatcherSettings` gives the unit."""
    action: Literal["off", "warn", "skip", "stop"] = "warn"
    """warn: log a warning. skip: discard the batch and sample it again. stop: end the run with a message."""


class EveryRollout(Fields):
    """Missing rollouts. Continuing without them is not an option: a step must learn from all its rollouts."""

    threshold: ClassVar[float] = 0.0
    action: Literal["skip", "stop"] = "skip"


class LateWatcher(Fields):
    """A quantity that is known only after the update, too late to skip the batch."""

    threshold: float = 0.0
    action: Literal["off", "warn", "stop"] = "warn"


class WatcherSettings(Fields):
    """Checks of each step (`prefix_opd.verl_plugin.trainer.watchers`). A healthy run passes the defaults."""

    missing: EveryRollout = EveryRollout()
    """Rollouts that failed, were cancelled (`rollout.timeout_seconds`), or have a short or misaligned teacher score."""
    not_finite: Watcher = Watcher(threshold=0, action="skip")
    """Tokens with a log-prob or advantage that is not finite."""
    uniform_teacher: Watcher = Watcher(threshold=0, action="skip")
    """Share of rollouts with uninformative teacher scores: all tokens alike, or all near -log V."""
    reverse_kl: Watcher = Watcher(threshold=30.0, action="warn")
    """Mean of |log p_student - log p_teacher| of a token, nats."""
    repetition: Watcher = Watcher(threshold=0.5, action="warn")
    """Share of rollouts whose last tokens repeat a short cycle."""
    endless: Watcher = Watcher(threshold=0.99, action="warn")
    """Share of rollouts cut at data.max_response_length. Cuts by a shorter L do not count."""
    tool_output: Watcher = Watcher(threshold=0, action="warn")
    """Share of rollouts that ended because tool outputs exceeded prefix_opd.rollout.tool_tokens."""
    sampler_mismatch: LateWatcher = LateWatcher(threshold=0.2, action="warn")
    """Mean of |log p_trainer - log p_sampler| of a token, nats."""
    gradient_norm: LateWatcher = LateWatcher(threshold=1e6, action="warn")
    """Norm of the gradient before clipping."""
    not_finite_update: LateWatcher = LateWatcher(threshold=0, action="stop")
    """Number of values of the update (loss, gradient norm) that are not finite. verl skips such an optimizer step."""
    validation_missing: LateWatcher = LateWatcher(threshold=0, action="warn")
    """Validation answers that failed. verl averages over the others. No summary or comparison uses such an accuracy."""
    validation_endless: LateWatcher = LateWatcher(threshold=0.9, action="warn")
    """Share of validation answers that do not end by themselves. No L cuts them: the student has not learned to end."""
    retries: Position = 2
    """How many batches in a row a step may discard before the run stops."""
