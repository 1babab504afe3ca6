"""Hand out a step's prompts early, at one of two moments of the step before.

*When the engines have its weights*, while the step before is still being told. verl hands prompts out when the next
step begins, after metrics are computed and written to every tracker. Nothing of that changes the weights, so rollouts
that begin before it are as strictly on-policy.

*Before the update that makes its weights* (``prefix_opd.rollout.off_policy_steps=1``): the engines sample step t + 1
while the trainer makes update t, so its rollouts are those of the policy one update earlier, which the importance ratio
of the loss corrects. The new weights wait until these rollouts are all there: none is sampled by two policies. Before a
checkpoint, a validation or a probe nothing is under way, so that a run goes on from a checkpoint as one that was never
interrupted, and a probe measures the weights that it is told to.
"""

from __future__ import annotations

import time

from verl.utils.skip import SkipManager

from prefix_opd.run import stopping
from prefix_opd.verl_plugin.trainer.step_guard import PARTITION


class EarlyDispatch:
    """Of the prompts of `PrefixOPDTrainer`, from one step to the next."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.dispatched = 0
        """The step whose prompts are handed out already; 0 for none."""

    def before_update(self, step: int) -> None:
        """The rollouts of ``step`` are judged, and its update is about to begin."""
        trainer = self.trainer
        if trainer.settings.rollout.off_policy_steps and not self._must_wait(step) and not self._is_saved(step):
            self._dispatch(step + 1)

    def wait(self) -> None:
        """Until no rollout is under way: the engines are about to get new weights."""
        buffer, told = self.trainer.replay_buffer, time.time()
        while self.dispatched > self.trainer.global_steps:
            buffer._sync_metadata_from_transfer_queue()
            if not (buffer.pending_keys[PARTITION] or buffer.running_keys[PARTITION]):
                return
            told = buffer._wait_for_next_poll(PARTITION, told)

    def after(self, step: int) -> None:
        """The engines have the weights that ``step`` made (and its checkpoint, if any, has the data's position)."""
        if not self.is_done(step + 1) and not self._must_wait(step):
            self._dispatch(step + 1)

    def is_done(self, step: int) -> bool:
        """Whether the prompts of ``step`` are handed out."""
        return self.dispatched == step

    def _dispatch(self, step: int) -> None:
        trainer, current = self.trainer, self.trainer.global_steps
        # verl, too, marks prompts with the trainer's step: it decides L and the seeds
        trainer.global_steps = step
        SkipManager.set_step(step)
        try:
            trainer._add_batch_to_generate()
        finally:
            trainer.global_steps = current
            SkipManager.set_step(current)
        self.dispatched = step

    def _must_wait(self, step: int) -> bool:
        """Whether the engines have something else to do first, or no step follows."""
        trainer = self.trainer
        ends = step >= trainer.total_training_steps
        ends = ends or step // trainer.steps_per_epoch >= trainer.config.trainer.total_epochs
        profiled = trainer.config.global_profiler.steps is not None  # what is handed out early would not be in it
        return ends or profiled or trainer.is_validated(step) or trainer.probe.is_due(step + 1)

    def _is_saved(self, step: int) -> bool:
        """Whether a checkpoint follows the update: it keeps the data's position, and loses prompts under way."""
        every = self.trainer.config.trainer.save_freq
        return (every > 0 and step % every == 0) or stopping.is_asked(self.trainer.run_folder)
