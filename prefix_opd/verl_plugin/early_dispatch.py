"""Hand out a step's prompts as soon as the engines have its weights, while the step before is still being told.

verl hands them out when the next step begins, after metrics are computed and written to every tracker. Nothing of that
changes the weights, so rollouts that begin before it are as strictly on-policy.
"""

from __future__ import annotations

from verl.utils.skip import SkipManager


class EarlyDispatch:
    """Of the prompts of `PrefixOPDTrainer`, from one step to the next."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.dispatched = 0
        """The step whose prompts are handed out already; 0 for none."""

    def after(self, step: int) -> None:
        """The engines have the weights that ``step`` made (and its checkpoint, if any, has the data's position)."""
        if self._must_wait(step):
            return
        trainer = self.trainer
        # verl, too, marks prompts with the trainer's step: it decides L and the seeds
        trainer.global_steps = step + 1
        SkipManager.set_step(step + 1)
        try:
            trainer._add_batch_to_generate()
        finally:
            trainer.global_steps = step
            SkipManager.set_step(step)
        self.dispatched = step + 1

    def is_done(self, step: int) -> bool:
        return self.dispatched == step

    def _must_wait(self, step: int) -> bool:
        """Whether the engines have something else to do first, or no step follows."""
        trainer = self.trainer
        ends = step >= trainer.total_training_steps
        ends = ends or step // trainer.steps_per_epoch >= trainer.config.trainer.total_epochs
        profiled = trainer.config.global_profiler.steps is not None  # what is handed out early would not be in it
        return ends or profiled or trainer.is_validated(step) or trainer.probe.is_due(step + 1)
