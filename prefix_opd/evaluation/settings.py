"""What the user may set of an evaluation, checked before anything is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from prefix_opd.base.errors import UserError, at_least

MAX_TOKENS = 16_384
"""The paper's L_test."""


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn. The defaults are the paper's."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = MAX_TOKENS
    """Response tokens at most."""
    seed: int = 0
    """Each response has a seed of its own, made of this one, its problem and its number: chunks and stops do not
    change it."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 10.0:
            raise UserError(f"--temperature={self.temperature:g}", "must lie between 0 and 10")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"--top-p={self.top_p:g}", "must be above 0 and at most 1")
        at_least("--max-tokens", self.max_tokens, 1)
        at_least("--seed", self.seed, 0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
