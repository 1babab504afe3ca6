"""Sampling settings of an evaluation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from prefix_opd.base.errors import UserError, at_least

MAX_TOKENS = 16_384
"""The paper's L_test."""


@dataclass(frozen=True)
class Sampling:
    """Sampling settings. The defaults are the paper's."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = MAX_TOKENS
    """Maximum length of a response, tokens."""
    seed: int = 0
    """The seed of a response depends on this seed, the problem and the sample, not on chunks or stops."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 10.0:
            raise UserError(f"--temperature={self.temperature:g}", "must lie between 0 and 10")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"--top-p={self.top_p:g}", "must be above 0 and at most 1")
        at_least("--max-tokens", self.max_tokens, 1)
        at_least("--seed", self.seed, 0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
