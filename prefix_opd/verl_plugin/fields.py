"""Read a training batch from TransferQueue as flat, aligned tensors without padding."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from prefix_opd.method.advantage import teacher_log_probs_of_response
from prefix_opd.method.objective import Objective

if TYPE_CHECKING:  # it imports ray, which a launcher does only after its warm copy has started
    from transfer_queue import KVBatchMeta

RECORD = "prefix_opd"
"""Key of a rollout's ending, times and data source."""
TEACHER_PROMPT_LENGTH = "teacher_prompt_length"
"""Entry of the record: tokens of the teacher's own prompt, if it has one."""
TURNS, SAMPLED = "turns", "sampled"
"""Entries of the record: turns of the student, and the tokens that it sampled in them."""
PREFIX_LENGTH = "prefix_length"
"""Column with L of each row, tokens, or with a list of one L for each rollout of the prompt. The trainer writes it when
it hands prompts out. verl passes columns to the agent loop as keyword arguments; the worker picks the rollout's own L,
which verl stores with the rollout. Validation batches lack this column."""
SETTINGS = "prefix_opd_settings"
"""Entry of an update's batch with the run's `Settings`. The trainer puts it into the batch's ``extra_info``. verl turns
``extra_info`` into non-tensor data of every mini- and micro-batch."""
COPY = "prefix_opd_copy"
"""Column that numbers identical rows (`prefix_opd.verl_plugin.trainer.copies`)."""
PROBE_SEED = "prefix_opd_probe"
"""Column of a probe's batch with the seed of each rollout."""


@dataclass(frozen=True)
class Rollouts:
    """What the cost of B rollouts depends on."""

    prompt_lengths: list[int]
    lengths: list[int]
    """(B,) response tokens, tool outputs included."""
    records: list[dict[str, Any]]
    """(B,) the `RECORD` of each."""

    @classmethod
    def read(cls, data: Any) -> Rollouts:
        """From the columns `COST_FIELDS` of TransferQueue."""
        prompts, responses = (data[name].offsets().diff().tolist() for name in ("prompts", "responses"))
        return Rollouts(prompts, responses, [fields[RECORD] for fields in map(plain_fields, data["extra_fields"])])

    @property
    def teacher_prompt_lengths(self) -> list[int]:
        """(B,) tokens of the prompts that the teacher scored."""
        pairs = zip(self.records, self.prompt_lengths, strict=True)
        return [record.get(TEACHER_PROMPT_LENGTH, prompt) for record, prompt in pairs]

    @property
    def sampled_lengths(self) -> list[int]:
        """(B,) tokens that the student sampled."""
        return [record.get(SAMPLED, length) for record, length in zip(self.records, self.lengths, strict=True)]

    def counted(self) -> dict[str, int]:
        """Tokens that were generated, and tokens that a teacher scored."""
        scored = sum(self.teacher_prompt_lengths) + sum(self.lengths)
        return {"generated": sum(self.sampled_lengths), "scored": scored}


@dataclass(frozen=True)
class TrainBatch(Rollouts):
    """The rollouts of one update: N response tokens in total, sequence after sequence, tool outputs included.

    For two rollouts of 2 and 1 tokens: ``lengths = [2, 1]``, ``log_p = [a1, a2, b1]``.
    """

    prompts: Tensor
    """Token ids of all prompts, concatenated."""
    tokens: Tensor
    """(N,) token ids."""
    log_p: Tensor
    """(N,) student log-probs, from the sampler or recomputed."""
    log_q: Tensor | None
    """(N,) teacher log-probs. None with top-k, which may not contain the sampled token."""
    prefix_lengths: list[int]
    """(B,) L of each rollout, tokens."""
    mask: Tensor
    """(N,) bool, True on tokens that the student sampled, False on a tool's answer."""
    topk: Tensor | None = None
    """(N, k) teacher log-probs of its k likeliest tokens; None without top-k."""

    def nested(self, flat: Tensor) -> Tensor:
        """(N,) -> jagged tensor with one row per rollout, as verl stores it."""
        return torch.nested.as_nested_tensor(list(flat.split(self.lengths)), layout=torch.jagged)

    def padded(self, flat: Tensor) -> Tensor:
        """(N,) -> (B, T), zeros at the end of each row."""
        return torch.nn.utils.rnn.pad_sequence(list(flat.split(self.lengths)), batch_first=True)

    def flat(self, padded: Tensor) -> Tensor:
        """(B, T) -> (N,)."""
        return torch.cat([row[:length] for row, length in zip(padded, self.lengths, strict=True)])

    def advantage(self, objective: Objective, clamp: float | None) -> Tensor:
        """(N,) advantage by the objective; zeros if the objective has none (verl's metrics require a tensor)."""
        if objective.needs_topk:
            return torch.zeros_like(self.log_p)
        padded = (self.padded(field) for field in (self.log_p, self.log_q, self.mask))
        return self.flat(objective.bounded_advantage(*padded, clamp))

    def reported(self, objective: Objective) -> dict[str, float]:
        """Metrics of the objective."""
        if self.log_q is None:
            return {}
        padded = (self.padded(field) for field in (self.log_p, self.log_q, self.mask))
        return objective.metrics(*padded, torch.tensor(self.prefix_lengths))

    def fingerprints(self) -> dict[str, int]:
        """CRC-32 of prompts and rollouts: equal for runs that train on the same tokens."""
        parts = {"prompts": self.prompts, "rollouts": self.tokens}
        return {f"fingerprint/{name}": zlib.crc32(ids.long().numpy().tobytes()) for name, ids in parts.items()}

    def positions(self) -> Tensor:
        """(N,) position of each token among those that the student sampled in its rollout, from 0."""
        return torch.cat([part.cumsum(0) - 1 for part in self.mask.split(self.lengths)])

    def ended(self, ending: str) -> Tensor:
        """(N,) bool, True on tokens of rollouts with this ending: "cut", "natural", "tools" or "other"."""
        found = torch.tensor([record["ending"] == ending for record in self.records])
        return found.repeat_interleave(torch.tensor(self.lengths))


def read_train_batch(data: Any, recomputed: bool, topk: bool = False) -> TrainBatch:
    """Align the fields of one batch.

    Args:
        data: the fields `TRAIN_FIELDS` from TransferQueue.
        recomputed: use ``old_log_probs`` as student log-probs in place of the sampler's.
        topk: whether the teacher returned its top-k.
    """
    rollouts = Rollouts.read(data)
    scored = zip(data["teacher_logprobs"].unbind(), rollouts.prompt_lengths, strict=True)
    # k columns are cut as `teacher_log_probs_of_response` cuts one
    cut = [score[prompt - 1 : -1] if topk else teacher_log_probs_of_response(score, prompt) for score, prompt in scored]
    scores = torch.cat(cut).float()
    return TrainBatch(
        **vars(rollouts),
        prompts=data["prompts"].values(),
        tokens=data["responses"].values(),
        log_p=data["old_log_probs" if recomputed else "rollout_log_probs"].values().float(),
        prefix_lengths=[int(plain_fields(length)) for length in data[PREFIX_LENGTH]],
        log_q=None if topk else scores,
        topk=scores if topk else None,
        mask=data["response_mask"].values().bool(),
    )


COST_FIELDS = ["prompts", "responses", "extra_fields"]
"""Columns from which the cost of a rollout follows."""
TRAIN_FIELDS = [*COST_FIELDS, "response_mask", "rollout_log_probs", "teacher_logprobs", PREFIX_LENGTH]
"""Columns of `read_train_batch`."""
UPDATE_FIELDS = (
    *("input_ids", "position_ids", "routed_experts"),  # the model
    *("prompts", "responses", "response_mask", "loss_mask"),  # which tokens are the response
    *("rollout_log_probs", "old_log_probs", "ref_log_prob", "rollout_is_weights", "advantages"),  # the loss
    *("values", "returns"),  # the critic, if there is one
)
"""Columns that verl's engines and losses read. A batch may lack some."""


def for_update(batch: KVBatchMeta, teacher: bool, images: bool) -> KVBatchMeta:
    """The batch with the columns that an update reads, with the teacher's scores and the images if asked for.

    verl sends every column: prompts as text, the data set's row, scores, records. Every mini- and micro-batch copies
    them, one object per rollout and column: 70 ms in an update of 64 rollouts.
    """
    scores = ("teacher_logprobs", "teacher_ids") if teacher else ()
    return replace(batch, fields=[*UPDATE_FIELDS, *scores, *(("multi_modal_inputs",) if images else ())])


def plain_fields(entry: Any) -> Any:
    """The value of a non-tensor column in a row, without TransferQueue's wrapper."""
    return getattr(entry, "data", entry)
