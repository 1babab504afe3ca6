"""FLOP of an update per phase, counted in two ways. Both use verl's formula for Qwen-like decoders:

    F_train(M, S) = 6 * N * S + a * S^2 * head_dim * heads * layers        (forward and backward of one sequence)
    F_forward     = F_train / 3

N is the number of parameters in projections, MLP, embedding and head. a = 6 (verl 0.9: causal attention) or 12 (earlier
releases: the full square).

*Exact* (`exact_flops`, ``flops_exact`` in the metrics) applies this to each rollout's own prompt and response length.
"Exact" refers to these lengths: they are neither rounded to the cap nor averaged. It does not count executed
instructions:

==========================================================================  =======
the prompt, once per rollout                                                counted
the student's second forward pass                                           counted if ``advantage.student_log_prob``
                                                                            asks for it
sampling and scoring of discarded batches                                   counted, in the step that repeats them
the embedding as a matrix product, although it is a lookup                  counted, as verl does
the head at every position, although sampling needs it at responses alone   counted, as verl does
a prompt that is computed once for several rollouts (prefix cache,          not subtracted
``update.share_prompts``)
the second forward pass of gradient checkpointing, a third of the update    not counted
validation and probe                                                        not counted
==========================================================================  =======

*Paper* (`paper_flops`) is the formula of arXiv 2602.15260, Appendix B, for comparison with the published tables. It
omits the prompt and always counts the student's second forward pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

ATTENTION_FLOP_FACTOR = 6
"""The factor ``a`` above, as verl 0.9.1 counts."""

SIZE_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a dense decoder (Qwen2, Qwen3, Llama), as FLOP counting needs them."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    head_dim: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read a Hugging Face ``config.json``; raises KeyError with the name of a missing field."""
        sizes = {name: int(config[name]) for name in SIZE_FIELDS}
        head_dim = config.get("head_dim") or sizes["hidden_size"] // sizes["num_attention_heads"]
        return cls(**sizes, head_dim=int(head_dim))

    @classmethod
    def from_folder(cls, folder: str | Path) -> ModelShape:
        """Read ``config.json`` of a model folder."""
        return cls.from_config(json.loads((Path(folder) / "config.json").read_text()))

    @property
    def matmul_parameters(self) -> int:
        """N: parameters of projections and gated MLP in all layers, embedding and head."""
        query = self.num_attention_heads * self.head_dim
        key_value = self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * query + 2 * key_value)
        mlp = 3 * self.hidden_size * self.intermediate_size
        return (attention + mlp) * self.num_hidden_layers + 2 * self.vocab_size * self.hidden_size

    def train_flops(self, lengths: Iterable[float], attention_factor: int = ATTENTION_FLOP_FACTOR) -> float:
        """Forward and backward pass over sequences of these lengths (tokens). Each sequence attends only to itself."""
        tokens = squares = 0.0
        for length in lengths:
            tokens += length
            squares += length * length
        attention = attention_factor * squares * self.head_dim * self.num_attention_heads * self.num_hidden_layers
        return float(6 * self.matmul_parameters * tokens + attention)

    def forward_flops(self, lengths: Iterable[float], attention_factor: int = ATTENTION_FLOP_FACTOR) -> float:
        """One forward pass: a third of `train_flops`."""
        return self.train_flops(lengths, attention_factor) / 3


@dataclass(frozen=True)
class StepFlops:
    """FLOP of one update, by phase."""

    sampling: float = 0.0
    student_scoring: float = 0.0
    teacher_scoring: float = 0.0
    update: float = 0.0

    def __add__(self, other: StepFlops) -> StepFlops:
        return StepFlops(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

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
) -> StepFlops:
    """FLOP of one update over prompt and response of every rollout. The table in this module says what counts.

    Sampling counts as one forward pass over the whole sequence: token by token the matrix products are the same.

    Args:
        prompt_lengths, response_lengths: (B,) tokens.
        recomputed_log_probs: whether a separate student pass recomputes the log-probs.
    """
    lengths = [prompt + response for prompt, response in zip(prompt_lengths, response_lengths, strict=True)]
    forward = student.forward_flops(lengths)
    return StepFlops(
        sampling=forward,
        student_scoring=forward if recomputed_log_probs else 0.0,
        teacher_scoring=teacher.forward_flops(lengths),
        update=student.train_flops(lengths),
    )


def paper_flops(student: ModelShape, teacher: ModelShape, response_lengths: Iterable[float]) -> StepFlops:
    """F_OPD = F_train(S, L) + 2 F_forward(S, L) + F_forward(T, L), without prompts (arXiv 2602.15260, Appendix B)."""
    lengths = list(response_lengths)
    forward = student.forward_flops(lengths)
    return StepFlops(
        sampling=forward,
        student_scoring=forward,
        teacher_scoring=teacher.forward_flops(lengths),
        update=student.train_flops(lengths),
    )
