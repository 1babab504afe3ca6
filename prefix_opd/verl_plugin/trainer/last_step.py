"""The end of a run before its last step: it was asked to, or it spent its FLOP budget."""

from __future__ import annotations

import logging

from omegaconf import open_dict

from prefix_opd.run import stopping

logger = logging.getLogger(__name__)


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
