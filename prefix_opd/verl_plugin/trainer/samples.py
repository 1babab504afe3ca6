"""Pass a few rollouts of a step to `prefix_opd.run.samples`, without extra computation."""

from __future__ import annotations

from typing import Any

import torch

from prefix_opd.run.samples import ROLLOUTS, Sample, SampleLog, is_sampled
from prefix_opd.verl_plugin.fields import TrainBatch


class SampleRecorder:
    """Part of the trainer. `open` is called together with the run log."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.log: SampleLog | None = None

    def open(self, resumed_step: int) -> None:
        if self.log is None:
            self.log = SampleLog(self.trainer.run_folder, resumed_step)

    def is_due(self, step: int) -> bool:
        config = self.trainer.config.trainer
        return is_sampled(step, config.test_freq, self.trainer.total_training_steps)

    def record(self, step: int, kind: str, rollouts: TrainBatch, data: Any, prefix_lengths: list[int]) -> None:
        """Store the first rollouts of a batch.

        Args:
            rollouts, data: the batch, and the TransferQueue fields that it was read from.
            prefix_lengths: L of each rollout, tokens. Rollouts of a probe may be longer than L.
        """
        decode = self.trainer.tokenizer.decode
        prompts, responses = (data[name].unbind()[:ROLLOUTS] for name in ("prompts", "responses"))
        # a tool's output has no reverse KL: as if both models gave it the same log-prob
        log_p = torch.where(rollouts.mask, rollouts.log_p, rollouts.log_q)
        fields = (log_p, rollouts.log_q, rollouts.mask, rollouts.positions())
        log_p, log_q, mask, positions = (field.split(rollouts.lengths) for field in fields)
        # L counts the student's tokens; a sample is split among all its tokens
        tools = [int((~mask[i] & (positions[i] < L - 1)).sum()) for i, L in enumerate(prefix_lengths)]
        self.log.write(
            [
                Sample(
                    step=step,
                    kind=kind,
                    prompt=decode(prompts[i].tolist()),
                    tokens=[decode([token]) for token in responses[i].tolist()],
                    ids=responses[i].tolist(),
                    log_p=[round(value, 4) for value in log_p[i].tolist()],
                    log_q=[round(value, 4) for value in log_q[i].tolist()],
                    prefix_length=prefix_lengths[i] + tools[i],
                    ending=rollouts.records[i]["ending"],
                )
                for i in range(len(responses))
            ]
        )
