"""Tokens and FLOP of a run, and the metrics of each batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from prefix_opd.config.keys import STUDENT_KEY
from prefix_opd.config.lora import student_shape
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import teachers
from prefix_opd.method.flops import ModelShape, StepFlops, exact_flops, paper_flops
from prefix_opd.method.metrics import by_position, reverse_kl_by_position, reverse_kl_metrics, rollout_metrics
from prefix_opd.verl_plugin.fields import TURNS, Rollouts, TrainBatch


class Ledger:
    """Tokens and FLOP of the run so far. Checkpoints store the ledger.

    Args:
        student: sizes.
        teachers: sizes by the data source that the teacher scores; by "" those of the only teacher.
        position_bin: positions per bin in metrics by position.
        recomputed: whether a separate student pass recomputes the log-probs.
    """

    def __init__(self, student: ModelShape, teachers: Mapping[str, ModelShape], position_bin: int, recomputed: bool):
        self.student, self.teachers, self.position_bin, self.recomputed = student, teachers, position_bin, recomputed
        self.flops = {"exact": 0.0, "paper": 0.0}
        self.tokens = Counter(generated=0, scored=0, trained=0)
        self._forget_thrown_away()

    @classmethod
    def of(cls, config: DictConfig, settings: Settings) -> Ledger:
        """The ledger of a new run."""
        student = Model(STUDENT_KEY, OmegaConf.select(config, STUDENT_KEY)).shape
        shapes = {one.source: Model(one.key, one.path).shape for one in teachers(config)}
        width = -(-int(config.data.max_response_length) // settings.position_bins)
        return cls(student_shape(config, student), shapes, width, settings.advantage.recomputes)

    @property
    def vocabulary(self) -> int:
        """Rows of the largest head of a teacher."""
        return max(teacher.vocab_size for teacher in self.teachers.values())

    def exact(self, rollouts: Rollouts, recomputed: bool) -> StepFlops:
        """FLOP of a batch; each rollout was scored by the teacher of its data source. ``recomputed`` as in `Ledger`."""
        spent, columns = StepFlops(), (rollouts.prompt_lengths, rollouts.lengths, rollouts.teacher_prompt_lengths)
        for teacher, chosen in self._by_teacher(rollouts.records):
            prompts, lengths, scored = (_of(chosen, column) for column in columns)
            spent += exact_flops(self.student, teacher, prompts, lengths, recomputed, scored)
        return spent

    def _by_teacher(self, records: Sequence[Mapping[str, Any]]) -> list[tuple[ModelShape, list[int]]]:
        """Each teacher with the indices of the rollouts that it scored."""
        if "" in self.teachers:
            return [(self.teachers[""], list(range(len(records))))]
        return [
            (teacher, [index for index, record in enumerate(records) if record["source"] == source])
            for source, teacher in self.teachers.items()
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"flops": self.flops, "tokens": self.tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.flops, self.tokens = state["flops"], Counter(state["tokens"])

    def add_thrown_away(self, rollouts: Rollouts, recomputed: bool) -> None:
        """Count a discarded batch as part of the step that samples it again. Arguments: see `exact`."""
        self.thrown_flops += replace(self.exact(rollouts, recomputed), update=0.0)
        self.thrown_tokens.update(rollouts.counted())

    def _forget_thrown_away(self) -> None:
        self.thrown_flops, self.thrown_tokens = StepFlops(), Counter[str]()

    def add(self, rollouts: TrainBatch) -> dict[str, Any]:
        """Count the batch of an update and the batches discarded before it. Returns the metrics of the step."""
        sampled, turns = rollouts.sampled_lengths, [record.get(TURNS, 1) for record in rollouts.records]
        found = rollout_metrics(rollouts.records, sampled, rollouts.prefix_lengths)
        found["turns/mean"] = sum(turns) / len(turns)
        found["tool_tokens/mean"] = (sum(rollouts.lengths) - sum(sampled)) / len(sampled)
        surprise = by_position(-rollouts.log_p[rollouts.mask], rollouts.positions()[rollouts.mask], self.position_bin)
        found |= {f"entropy_by_position/{first}": mean for first, mean, _ in surprise}
        if rollouts.log_q is not None:
            found.update(self._reverse_kl(rollouts))
        found.update(self._by_source(rollouts))
        found.update(rollouts.fingerprints())
        found.update(self._count(rollouts))
        return {f"prefix_opd/{name}": value for name, value in found.items()}

    def _reverse_kl(self, rollouts: TrainBatch) -> dict[str, float]:
        mask = rollouts.mask
        log_p, log_q = rollouts.log_p[mask], rollouts.log_q[mask]
        groups = {ending: rollouts.ended(ending)[mask] for ending in ("cut", "natural")}
        return {
            **reverse_kl_metrics(rollouts.log_p, rollouts.log_q, mask),
            **reverse_kl_by_position(log_p, log_q, rollouts.positions()[mask], groups, self.position_bin),
        }

    def _by_source(self, rollouts: TrainBatch) -> dict[str, float]:
        """Of several teachers, what each one scored in this step: reverse KL, tokens, FLOP."""
        found: dict[str, float] = {}
        for source, (teacher, chosen) in zip(self.teachers, self._by_teacher(rollouts.records), strict=True):
            if not source or not chosen:
                continue
            own = torch.zeros(len(rollouts.lengths), dtype=torch.bool)
            own[chosen] = True
            mask = rollouts.mask & own.repeat_interleave(torch.tensor(rollouts.lengths))
            whole = [rollouts.teacher_prompt_lengths[index] + rollouts.lengths[index] for index in chosen]
            values = {"tokens": sum(whole), "flops_exact": teacher.forward_flops(whole)}
            if rollouts.log_q is not None:
                values |= reverse_kl_metrics(rollouts.log_p, rollouts.log_q, mask)
            found |= {f"teacher/{source}/{name}": value for name, value in values.items()}
        return found

    def _count(self, rollouts: TrainBatch) -> dict[str, float]:
        exact, paper = self.exact(rollouts, self.recomputed) + self.thrown_flops, StepFlops()
        for teacher, chosen in self._by_teacher(rollouts.records):
            paper += paper_flops(self.student, teacher, _of(chosen, rollouts.sampled_lengths))
        tokens = Counter(rollouts.counted(), trained=int(rollouts.mask.sum()))
        tokens.update(self.thrown_tokens)
        self._forget_thrown_away()
        self.flops["exact"] += exact.total
        self.flops["paper"] += paper.total
        self.tokens.update(tokens)
        return {
            "prompt_length/mean": sum(rollouts.prompt_lengths) / len(rollouts.prompt_lengths),
            **self._flop_metrics("exact", exact),
            **self._flop_metrics("paper", paper),
            **{f"tokens/{kind}": count for kind, count in tokens.items()},
            **{f"tokens_so_far/{kind}": count for kind, count in self.tokens.items()},
        }

    def _flop_metrics(self, kind: str, step: StepFlops) -> dict[str, float]:
        phases = {f"flops_{kind}/{phase}": value for phase, value in step.as_dict().items()}
        return {**phases, f"flops_{kind}/so_far": self.flops[kind]}


def _of(chosen: Sequence[int], values: Sequence[int]) -> list[int]:
    return [values[index] for index in chosen]
