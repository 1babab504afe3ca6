"""What follows a step: the next one, whose prompts are handed out early, or the end of the run.

*After the weight sync* (default): verl hands prompts out when the next step begins, after metrics are computed and
written to every tracker. None of that changes the weights, so rollouts that start before it are strictly on-policy.

*Before the update* (``prefix_opd.rollout.off_policy_steps=1``): the engines sample step t + 1 while the trainer runs
update t. These rollouts come from the policy one update earlier, and the importance ratio of the loss corrects for
that. The weight sync waits until all these rollouts are finished, so each comes from one policy. No rollouts are under
way at a checkpoint, a validation or a probe. So a run that goes on from a scheduled checkpoint equals an
uninterrupted one, and a probe measures the weights of its step. After a checkpoint that a stop asked for, and after
that of the last step, the rollouts of one more step come from the policy itself.
"""

from __future__ import annotations

import logging
import time

from omegaconf import open_dict
from verl.utils.skip import SkipManager

from prefix_opd.run import stopping
from prefix_opd.verl_plugin.trainer.step_guard import PARTITION

logger = logging.getLogger(__name__)


class EarlyDispatch:
    """Hands out the prompts of `PrefixOPDTrainer`."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.dispatched = 0
        """The last step whose prompts were handed out early; 0 for none."""

    def before_update(self, step: int) -> None:
        """Called after the checks of ``step``'s rollouts, before its update."""
        trainer = self.trainer
        if trainer.settings.rollout.off_policy_steps and not self._must_wait(step) and not self._is_saved(step):
            self._dispatch(step + 1)

    def wait(self) -> None:
        """Wait until no rollout is under way. Called before the weight sync."""
        buffer, told = self.trainer.replay_buffer, time.time()
        while self.dispatched > self.trainer.global_steps:
            buffer._sync_metadata_from_transfer_queue()
            if not (buffer.pending_keys[PARTITION] or buffer.running_keys[PARTITION]):
                return
            told = buffer._wait_for_next_poll(PARTITION, told)

    def after(self, step: int) -> None:
        """Called after the weight sync of ``step`` and its checkpoint, if any."""
        if not self.is_done(step + 1) and not self._must_wait(step):
            self._dispatch(step + 1)

    def is_done(self, step: int) -> bool:
        """Whether the prompts of ``step`` are handed out."""
        return self.dispatched == step

    def _dispatch(self, step: int) -> None:
        trainer, current = self.trainer, self.trainer.global_steps
        # the trainer's step decides L and the seeds; verl writes it on the prompts
        trainer.global_steps = step
        SkipManager.set_step(step)
        try:
            trainer._add_batch_to_generate()
        finally:
            trainer.global_steps = current
            SkipManager.set_step(current)
        self.dispatched = step

    def _must_wait(self, step: int) -> bool:
        """Whether a validation or probe comes first, profiling is on, or no step follows."""
        trainer = self.trainer
        ends = step >= trainer.total_training_steps
        ends = ends or step // trainer.steps_per_epoch >= trainer.config.trainer.total_epochs
        profiled = trainer.config.global_profiler.steps is not None  # the profile would miss early rollouts
        return ends or profiled or trainer.is_validated(step) or trainer.probe.is_due(step + 1)

    def _is_saved(self, step: int) -> bool:
        """Whether a checkpoint follows the update. It stores the data position and would lose prompts under way."""
        every = self.trainer.config.trainer.save_freq
        return (every > 0 and step % every == 0) or reason_to_end(self.trainer) is not None


def reason_to_end(trainer) -> str | None:
    """Why no step follows the current one, though some are left."""
    if stopping.is_asked(trainer.run_folder):
        return "asked to end"
    budget = trainer.settings.flop_budget
    is_spent = budget is not None and trainer.ledger.flops["exact"] >= budget
    return "the FLOP budget is spent" if is_spent else None


def end_if_due(trainer) -> None:
    """Make the current step the last one, with a checkpoint.

    Checkpoints do not contain prompts that are handed out early: the run trains on these first.
    """
    reason, step = reason_to_end(trainer), trainer.global_steps
    if reason is None or trainer.early.is_done(step + 1):
        return
    if trainer.saved_step != step:
        trainer._save_checkpoint()
    trainer.total_training_steps = step  # verl's loop ends here
    with open_dict(trainer.config):
        # a resumed run validates this step if it is due; a spent budget is the end
        validates = not stopping.is_asked(trainer.run_folder) and trainer.config.trainer.test_freq > 0
        trainer.config.trainer.test_freq = 1 if validates else -1
    logger.warning("%s: step %d is the last, its checkpoint is written", reason, step)
