"""The schedule in a run: L of the prompts that are handed out, what the schedule observes, weights that depend on L."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl.utils import tensordict_utils as tu

from prefix_opd.config.settings import Settings
from prefix_opd.method.names import SIGNAL, THRESHOLD, VALIDATION_MISSING, accuracies
from prefix_opd.method.schedule import prefix_lengths, rollout_lengths
from prefix_opd.run.log import numbers
from prefix_opd.verl_plugin.fields import PREFIX_LENGTH


class Lengths:
    """Of the trainer. L changes only in `observe`, between the update and its checkpoint."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.validated: dict[str, float] = {}
        """The last validation that the schedule has not observed."""

    @property
    def schedule(self):
        return self.trainer.settings.schedule

    @property
    def response_length(self) -> int:
        return int(self.trainer.config.data.max_response_length)

    def longest(self, step: int) -> int:
        """The largest L of a step by the schedule's current state, tokens."""
        prompts, rollouts = self.trainer.config.data.train_batch_size, self.trainer.config.actor_rollout_ref.rollout.n
        rows = prompts * rollouts if self.schedule.each_rollout else prompts
        return max(prefix_lengths(self.schedule, step, rows, self.response_length))

    def write_on(self, batch) -> None:
        """Write L on prompts that are handed out. Prompts that are sampled again keep theirs."""
        if PREFIX_LENGTH not in batch:
            place = (self.trainer.global_steps, len(batch), int(self.trainer.config.actor_rollout_ref.rollout.n))
            lengths = rollout_lengths(self.schedule, *place, self.response_length)
            tu.assign_non_tensor_stack(batch, PREFIX_LENGTH, lengths)

    def settings_of_update(self) -> Settings:
        """The run's settings, with the weighting of the current update."""
        settings = self.trainer.settings
        weighting = settings.weighting.at(self.schedule, self.trainer.global_steps, self.response_length)
        return settings.model_copy(update={"weighting": weighting})

    def observe(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Show a finished update to the schedule, with the validation before it, if there was one.

        Returns:
            The schedule's signal and threshold, as metrics of the update.
        """
        seen, self.validated = numbers({**self.validated, **metrics}), {}
        found = self.schedule.signal_of(seen) or (None, None)
        self.schedule.observe(seen)
        return {name: value for name, value in zip((SIGNAL, THRESHOLD), found, strict=True) if value is not None}

    def validation(self, metrics: Mapping[str, Any]) -> None:
        """Keep the accuracies of a validation until the next update is observed."""
        if accuracies(metrics):
            kept = ("val-core/", VALIDATION_MISSING)
            self.validated = {name: value for name, value in metrics.items() if name.startswith(kept)}
