"""Read a training batch out of TransferQueue as flat, aligned tensors: nothing is padded."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from prefix_opd.method.advantage import teacher_log_probs_of_response
from prefix_opd.method.objective import Objective

RECORD = "prefix_opd"
"""The key under which a rollout carries its ending and its times."""
PREFIX_LENGTH = "prefix_length"
"""The column of a batch that holds L of each row, tokens. The trainer stamps it when it hands prompts out; verl hands a
column on to the agent loop as a keyword argument, and stores it with the rollout. Validation batches have none."""
SETTINGS = "prefix_opd_settings"
"""The entry of an update's batch that holds the run's `Settings`. The trainer puts it into the batch's ``extra_info``,
which verl turns into non-tensor data that each mini- and micro-batch keeps."""
COPY = "prefix_opd_copy"
"""The column of a batch that numbers rows which nothing else tells apart (`prefix_opd.verl_plugin.trainer.copies`)."""
PROBE_SEED = "prefix_opd_probe"
"""The column of a probe's batch that holds the seed of each rollout."""


@dataclass(frozen=True)
class TrainBatch:
    """The rollouts of one update. N = all response tokens of the batch, sequence after sequence.

    For two rollouts of 2 and 1 tokens: ``lengths = [2, 1]``, ``log_p = [a1, a2, b1]``.
    """

    prompts: Tensor
    """Token ids of all prompts, one after the other."""
    tokens: Tensor
    """(N,) token ids."""
    prompt_lengths: list[int]
    lengths: list[int]
    log_p: Tensor
    """(N,) the student's log-probs: the sampler's, or recomputed ones."""
    log_p_rollout: Tensor
    """(N,) the sampler's."""
    log_q: Tensor | None
    """(N,) the teacher's; none where it was asked for its top-k tokens, which need not hold the sampled one."""
    prefix_lengths: list[int]
    """L of each, tokens."""
    mask: Tensor
    """(N,) 1 where the student sampled the token, 0 for a tool's answer."""
    records: list[dict[str, Any]]
    topk: Tensor | None = None
    """(N, k) the teacher's log-probs of its k likeliest tokens, where it was asked for them."""

    def nested(self, flat: Tensor) -> Tensor:
        """(N,) -> a jagged tensor with one row a rollout, as verl stores it."""
        return torch.nested.as_nested_tensor(list(flat.split(self.lengths)), layout=torch.jagged)

    def padded(self, flat: Tensor) -> Tensor:
        """(N,) -> (B, T), zeros at the end of each row."""
        return torch.nn.utils.rnn.pad_sequence(list(flat.split(self.lengths)), batch_first=True)

    def flat(self, padded: Tensor) -> Tensor:
        """(B, T) -> (N,)."""
        return torch.cat([row[:length] for row, length in zip(padded, self.lengths, strict=True)])

    def advantage(self, objective: Objective, clamp: float | None) -> Tensor:
        """(N,) by the objective; zeros where it needs none, as verl's metrics ask for one."""
        if not objective.needs_advantage:
            return torch.zeros_like(self.log_p)
        padded = (self.padded(field) for field in (self.log_p, self.log_q, self.mask))
        return self.flat(objective.bounded_advantage(*padded, clamp))

    def fingerprints(self) -> dict[str, int]:
        """CRC-32 of the prompts and of the rollouts: two runs that learn from the same have the same."""
        parts = {"prompts": self.prompts, "rollouts": self.tokens}
        return {f"fingerprint/{name}": zlib.crc32(ids.long().numpy().tobytes()) for name, ids in parts.items()}

    def positions(self) -> Tensor:
        """(N,) the position of each token in its response, from 0."""
        return torch.cat([torch.arange(length) for length in self.lengths])

    def ended(self, ending: str) -> Tensor:
        """(N,) bool, the tokens of rollouts that ended so: "cut", "natural" or "other"."""
        found = torch.tensor([record["ending"] == ending for record in self.records])
        return found.repeat_interleave(torch.tensor(self.lengths))


def read_train_batch(data: Any, recomputed: bool, topk: bool = False) -> TrainBatch:
    """Align the fields of one batch.

    Args:
        data: what TransferQueue returns for the fields of `TRAIN_FIELDS`.
        recomputed: take ``old_log_probs`` for the student's log-probs in place of the sampler's.
        topk: the teacher was asked for its top-k tokens, for a loss over those.
    """
    prompt_lengths, lengths = read_lengths(data)
    log_p_rollout = data["rollout_log_probs"].values().float()
    return TrainBatch(
        prompts=data["prompts"].values(),
        tokens=data["responses"].values(),
        prompt_lengths=prompt_lengths,
        lengths=lengths,
        log_p=data["old_log_probs"].values().float() if recomputed else log_p_rollout,
        log_p_rollout=log_p_rollout,
        prefix_lengths=[int(plain_fields(length)) for length in data[PREFIX_LENGTH]],
        log_q=None if topk else _teacher_log_probs(data, prompt_lengths),
        topk=_teacher_topk(data, prompt_lengths) if topk else None,
        mask=data["response_mask"].values().bool(),
        records=[fields[RECORD] for fields in map(plain_fields, data["extra_fields"])],
    )


def read_lengths(data: Any) -> tuple[list[int], list[int]]:
    """Tokens of each prompt and of each response, from the fields of `LENGTH_FIELDS`."""
    prompts, responses = (data[name].offsets().diff().tolist() for name in LENGTH_FIELDS)
    return prompts, responses


def _teacher_log_probs(data: Any, prompt_lengths: list[int]) -> Tensor:
    scores = data["teacher_logprobs"].unbind()
    cut = [teacher_log_probs_of_response(score, prompt) for score, prompt in zip(scores, prompt_lengths, strict=True)]
    return torch.cat(cut).float()


def _teacher_topk(data: Any, prompt_lengths: list[int]) -> Tensor:
    scores = data["teacher_logprobs"].unbind()
    return torch.cat([score[prompt - 1 : -1] for score, prompt in zip(scores, prompt_lengths, strict=True)]).float()


LENGTH_FIELDS = ["prompts", "responses"]
TRAIN_FIELDS = [
    *LENGTH_FIELDS,
    "response_mask",
    "rollout_log_probs",
    "teacher_logprobs",
    PREFIX_LENGTH,
    "extra_fields",
]


def plain_fields(entry: Any) -> Any:
    """What a row holds in a column that is no tensor, however TransferQueue wrapped it."""
    return getattr(entry, "data", entry)


def plain(node: Any) -> Any:
    """A config node as plain Python containers."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
