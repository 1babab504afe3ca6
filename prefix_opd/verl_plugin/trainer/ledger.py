"""Tokens and FLOP of a run, and the metrics of each batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.config.keys import STUDENT_KEY, TEACHER_KEY
from prefix_opd.config.lora import student_shape
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.method.flops import ModelShape, StepFlops, exact_flops, paper_flops
from prefix_opd.method.metrics import by_position, reverse_kl_by_position, reverse_kl_metrics, rollout_metrics
from prefix_opd.verl_plugin.fields import TrainBatch


class Ledger:
    """Tokens and FLOP of the run so far. Checkpoints store the ledger.

    Args:
        student, teacher: model sizes.
        position_bin: positions per bin in metrics by position.
        recomputed: whether a separate student pass recomputes the log-probs.
    """

    def __init__(self, student: ModelShape, teacher: ModelShape, position_bin: int, recomputed: bool):
        self.student, self.teacher, self.position_bin, self.recomputed = student, teacher, position_bin, recomputed
        self.flops = {"exact": 0.0, "paper": 0.0}
        self.tokens = {"generated": 0, "scored": 0, "trained": 0}
        self._forget_thrown_away()

    @classmethod
    def of(cls, config: DictConfig, settings: Settings) -> Ledger:
        """The ledger of a new run."""
        student, teacher = (Model(key, OmegaConf.select(config, key)).shape for key in (STUDENT_KEY, TEACHER_KEY))
        width = -(-int(config.data.max_response_length) // settings.position_bins)
        return cls(student_shape(config, student), teacher, width, settings.advantage.recomputes)

    def state_dict(self) -> dict[str, Any]:
        return {"flops": self.flops, "tokens": self.tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.flops, self.tokens = state["flops"], state["tokens"]

    def add_thrown_away(
        self,
        prompt_lengths: Sequence[int],
        lengths: Sequence[int],
        teacher_prompt_lengths: Sequence[int],
        recomputed: bool,
    ) -> None:
        """Count a discarded batch as part of the step that samples it again.

        Args:
            prompt_lengths, lengths, teacher_prompt_lengths: (B,) tokens of prompts, responses, the teacher's prompts.
            recomputed: whether the student pass that recomputes log-probs had run.
        """
        lost = exact_flops(self.student, self.teacher, prompt_lengths, lengths, recomputed, teacher_prompt_lengths)
        self.thrown_flops += replace(lost, update=0.0)
        self.thrown_tokens["generated"] += sum(lengths)
        self.thrown_tokens["scored"] += sum(teacher_prompt_lengths) + sum(lengths)

    def _forget_thrown_away(self) -> None:
        self.thrown_flops, self.thrown_tokens = StepFlops(), {"generated": 0, "scored": 0, "trained": 0}

    def add(self, rollouts: TrainBatch) -> dict[str, Any]:
        """Count the batch of an update and the batches discarded before it. Returns the metrics of the step."""
        found = rollout_metrics(rollouts.records, rollouts.lengths, rollouts.prefix_lengths)
        found.update(self._entropy(rollouts))
        if rollouts.log_q is not None:
            found.update(self._reverse_kl(rollouts))
        found.update(rollouts.fingerprints())
        found.update(self._count(rollouts))
        return {f"prefix_opd/{name}": value for name, value in found.items()}

    def _entropy(self, rollouts: TrainBatch) -> dict[str, float]:
        values = (-rollouts.log_p[rollouts.mask], rollouts.positions()[rollouts.mask])
        return {f"entropy_by_position/{first}": mean for first, mean, _ in by_position(*values, self.position_bin)}

    def _reverse_kl(self, rollouts: TrainBatch) -> dict[str, float]:
        mask = rollouts.mask
        log_p, log_q = rollouts.log_p[mask], rollouts.log_q[mask]
        groups = {ending: rollouts.ended(ending)[mask] for ending in ("cut", "natural")}
        return {
            **reverse_kl_metrics(rollouts.log_p, rollouts.log_q, mask),
            **reverse_kl_by_position(log_p, log_q, rollouts.positions()[mask], groups, self.position_bin),
        }

    def _count(self, rollouts: TrainBatch) -> dict[str, float]:
        prompts, scored = rollouts.prompt_lengths, rollouts.teacher_prompt_lengths
        exact = exact_flops(self.student, self.teacher, prompts, rollouts.lengths, self.recomputed, scored)
        paper = paper_flops(self.student, self.teacher, rollouts.lengths)
        tokens = {
            "generated": sum(rollouts.lengths),
            "scored": sum(scored) + sum(rollouts.lengths),
            "trained": int(rollouts.mask.sum()),
        }
        exact += self.thrown_flops
        tokens = {kind: count + self.thrown_tokens[kind] for kind, count in tokens.items()}
        self._forget_thrown_away()
        self.flops["exact"] += exact.total
        self.flops["paper"] += paper.total
        for kind, count in tokens.items():
            self.tokens[kind] += count
        return {
            "prompt_length/mean": sum(prompts) / len(prompts),
            **self._flop_metrics("exact", exact),
            **self._flop_metrics("paper", paper),
            **{f"tokens/{kind}": count for kind, count in tokens.items()},
            **{f"tokens_so_far/{kind}": count for kind, count in self.tokens.items()},
        }

    def _flop_metrics(self, kind: str, step: StepFlops) -> dict[str, float]:
        phases = {f"flops_{kind}/{phase}": value for phase, value in step.as_dict().items()}
        return {**phases, f"flops_{kind}/so_far": self.flops[kind]}
