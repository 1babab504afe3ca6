"""Which columns of a batch travel to the update.

verl reads every column that TransferQueue has of a rollout: prompts as text, the data set's row, scores, records. What
is no tensor comes as an object for each rollout and column, and each mini- and micro-batch makes them once more: 70 ms
of an update of 64 rollouts, which reads none of them. What travels here is what verl's engines and losses read.
"""

from __future__ import annotations

from dataclasses import replace

from transfer_queue import KVBatchMeta

READ = (
    *("input_ids", "position_ids", "routed_experts"),  # the model
    *("prompts", "responses", "response_mask", "loss_mask"),  # which tokens are the response
    *("rollout_log_probs", "old_log_probs", "ref_log_prob", "rollout_is_weights", "advantages"),  # the loss
    *("values", "returns"),  # a critic's, where there is one
)
TEACHER = ("teacher_logprobs", "teacher_ids")
IMAGES = ("multi_modal_inputs",)


def for_update(batch: KVBatchMeta, trainer) -> KVBatchMeta:
    """The batch as an update of `PrefixOPDTrainer` reads it; a column that it lacks is not missed."""
    settings = trainer.settings
    teacher = TEACHER if settings.loss.needs_teacher_at_update(settings.advantage.student_log_prob) else ()
    images = IMAGES if trainer.processor is not None else ()  # of a prompt without any it is an empty object
    return replace(batch, fields=[*READ, *teacher, *images])
