"""Selects the columns of a batch that are sent to the update.

verl sends every column of a rollout in TransferQueue: prompts as text, the data set's row, scores, records. Each
non-tensor column is one object per rollout, and every mini- and micro-batch copies it. An update of 64 rollouts spends
70 ms on them and reads none. Only the columns that verl's engines and losses read are sent here.
"""

from __future__ import annotations

from dataclasses import replace

from transfer_queue import KVBatchMeta

READ = (
    *("input_ids", "position_ids", "routed_experts"),  # the model
    *("prompts", "responses", "response_mask", "loss_mask"),  # which tokens are the response
    *("rollout_log_probs", "old_log_probs", "ref_log_prob", "rollout_is_weights", "advantages"),  # the loss
    *("values", "returns"),  # the critic, if there is one
)
TEACHER = ("teacher_logprobs", "teacher_ids")
IMAGES = ("multi_modal_inputs",)


def for_update(batch: KVBatchMeta, trainer) -> KVBatchMeta:
    """The batch with the columns that an update of `PrefixOPDTrainer` reads. A batch may lack some of them."""
    settings = trainer.settings
    teacher = TEACHER if settings.loss.needs_teacher_at_update(settings.advantage.student_log_prob) else ()
    images = IMAGES if trainer.processor is not None else ()  # an empty object for a prompt without images
    return replace(batch, fields=[*READ, *teacher, *images])
