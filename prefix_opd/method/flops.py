"""FLOP of an update per phase, counted in two ways. Both use verl's formula:

    F_train(M, S) = 6 * N * S + a * S^2 * head_dim * heads * layers        (forward and backward of one sequence)
    F_forward     = F_train / 3

N is the number of parameters that a token passes: projections, MLP (of a mixture, the active experts and the router),
embedding and head. a = 6 (causal attention, as verl 0.9.1 counts; earlier releases: 12, the full square). A sliding
window bounds S^2, and linear attention has a term linear in S instead (`prefix_opd.method.layers`).

With a LoRA adapter of A parameters the N are frozen. They have a forward pass (2) and the gradient of their inputs (2),
and no gradient of their own (2):

    F_train(M, S) = (4 * N + 6 * A) * S + a * S^2 * head_dim * heads * layers
    F_forward     = (2 * N + 2 * A) * S + a / 3 * S^2 * head_dim * heads * layers

*Exact* (`exact_flops`, ``flops_exact`` in the metrics) applies this to each rollout's own prompt and response length.
"Exact" refers to these lengths: they are neither rounded to the cap nor averaged. It does not count executed
instructions; docs/metrics.md lists what counts.

*Paper* (`paper_flops`) is the formula of arXiv 2602.15260, Appendix B, for comparison with the published tables. It
omits the prompt and always counts the student's second forward pass.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prefix_opd.method.layers import Layer, read_layers


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder, as FLOP and memory need them."""

    hidden_size: int
    vocab_size: int
    layers: tuple[Layer, ...]
    adapter: int = 0
    """A: parameters of a LoRA adapter, the only trained ones; 0: all weights are trained."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read a Hugging Face config (of the text part). Raises as `layers.read_layers`."""
        return cls(int(config["hidden_size"]), int(config["vocab_size"]), read_layers(config))

    @classmethod
    def from_folder(cls, folder: str | Path) -> ModelShape:
        return cls.from_config(json.loads((Path(folder) / "config.json").read_text()))

    @cached_property
    def kinds(self) -> Mapping[Layer, int]:
        """Kind of layer -> number of such layers."""
        return Counter(self.layers)

    def _parameters(self, of_a_token: bool) -> int:
        layers = (
            count * (mixer.parameters(self.hidden_size) + mlp.parameters(self.hidden_size, of_a_token))
            for (mixer, mlp), count in self.kinds.items()
        )
        return sum(layers) + 2 * self.vocab_size * self.hidden_size

    @cached_property
    def matmul_parameters(self) -> int:
        """N: parameters that one token passes: its layers (of a mixture, the active experts), embedding and head."""
        return self._parameters(of_a_token=True)

    @cached_property
    def all_parameters(self) -> int:
        """With every expert. Embedding and head count apart, even where they are one matrix."""
        return self._parameters(of_a_token=False)

    @property
    def largest_layer(self) -> int:
        """Parameters."""
        return max(mixer.parameters(self.hidden_size) + mlp.parameters(self.hidden_size) for mixer, mlp in self.kinds)

    @property
    def largest_tensor(self) -> int:
        """Numbers in the embedding or an MLP's matrix; transformers keeps a layer's experts in two tensors."""
        widths = (mlp.width if mlp.experts == 1 else 2 * mlp.experts * mlp.width for _, mlp in self.kinds)
        return self.hidden_size * max(self.vocab_size, *widths)

    @property
    def mlp_width(self) -> int:
        """Width of the widest MLP; in a mixture, the total width of the experts of one token."""
        return max(mlp.active_width for _, mlp in self.kinds)

    def train_flops(self, lengths: Iterable[float]) -> float:
        """Forward and backward pass over sequences of these lengths (tokens). Each sequence attends only to itself."""
        per_weight = 4 if self.adapter else 6
        return self._flops(lengths, per_weight * self.matmul_parameters + 6 * self.adapter, 1)

    def forward_flops(self, lengths: Iterable[float]) -> float:
        """One forward pass: a third of `train_flops` where all weights are trained."""
        return self._flops(lengths, 2 * (self.matmul_parameters + self.adapter), 3)

    def _flops(self, lengths: Iterable[float], per_token: int, share: int) -> float:
        tokens = attention = 0.0
        for length, sequences in Counter(lengths).items():
            tokens += sequences * length
            attention += sequences * sum(n * mixer.train_flops(length) for (mixer, _), n in self.kinds.items())
        return float(per_token * tokens + attention / share)


@dataclass(frozen=True)
class StepFlops:
    """FLOP of one update, by phase."""

    sampling: float = 0.0
    student_scoring: float = 0.0
    teacher_scoring: float = 0.0
    update: float = 0.0

    def __add__(self, other: StepFlops) -> StepFlops:
        return StepFlops(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def __rmul__(self, factor: float) -> StepFlops:
        return StepFlops(*(factor * flops for flops in astuple(self)))

    @property
    def total(self) -> float:
        return self.sampling + self.student_scoring + self.teacher_scoring + self.update

    def as_dict(self) -> dict[str, float]:
        return {**asdict(self), "total": self.total}


def exact_flops(
    student: ModelShape,
    teacher: ModelShape,
    prompt_lengths: Iterable[float],
    response_lengths: Iterable[float],
    recomputed_log_probs: bool = False,
    teacher_prompt_lengths: Iterable[float] | None = None,
) -> StepFlops:
    """FLOP of one update over prompt and response of every rollout; docs/metrics.md lists what counts.

    Sampling counts as one forward pass over the whole sequence: token by token the matrix products are the same.

    Args:
        prompt_lengths, response_lengths: (B,) tokens.
        recomputed_log_probs: whether a separate student pass recomputes the log-probs.
        teacher_prompt_lengths: (B,) tokens of the teacher's own prompts; None: it has the student's.
    """
    prompts, responses = list(prompt_lengths), list(response_lengths)
    theirs = prompts if teacher_prompt_lengths is None else teacher_prompt_lengths
    lengths, scored = ([a + b for a, b in zip(of, responses, strict=True)] for of in (prompts, theirs))
    forward = student.forward_flops(lengths)
    return StepFlops(
        sampling=forward,
        student_scoring=forward if recomputed_log_probs else 0.0,
        teacher_scoring=teacher.forward_flops(scored),
        update=student.train_flops(lengths),
    )


def paper_flops(student: ModelShape, teacher: ModelShape, response_lengths: Iterable[float]) -> StepFlops:
    """F_OPD = F_train(S, L) + 2 F_forward(S, L) + F_forward(T, L), without prompts (arXiv 2602.15260, Appendix B)."""
    lengths = list(response_lengths)
    return exact_flops(student, teacher, [0] * len(lengths), lengths, recomputed_log_probs=True)
