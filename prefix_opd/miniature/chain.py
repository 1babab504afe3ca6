"""The first task: a running total, modulo 100, of three signed digits that repeat.

``7+3-5+8:d`` means: start at 7, add 3 (step d), subtract 5 (step c), add 8 (step b), add 3 again (step a, the last one,
because the labels count down). The answer is ``16``. Like a mathematics problem, it has a short question and a long
answer.

A careful step is ``d+3=10;``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from prefix_opd.miniature.task import Problem, Style

PATTERN = 3  # terms that repeat
MODULUS = 100


@dataclass(frozen=True)
class Chain(Problem):
    """One chain. Example: ``Chain(start=7, pattern=(3, -5, 8), steps=4)`` asks for 7 + 3 - 5 + 8 + 3."""

    SOURCE: ClassVar = "tiny/chain"
    STEPS: ClassVar = (4, 26)  # careful answers of 32 to 186 tokens
    MAX_TOKENS: ClassVar = 192
    BASE: ClassVar = Style(quick=0.88, lapse=0.02, answer_slip=0.2, end_of_text=0.92)

    start: int
    """1 to 9."""
    pattern: tuple[int, ...]
    """The signed digits that repeat, never 0."""
    steps: int

    @classmethod
    def draw(cls, rng: random.Random, steps: tuple[int, int] | None = None) -> Chain:
        pattern = tuple(rng.choice((-1, 1)) * rng.randint(1, 9) for _ in range(PATTERN))
        return cls(rng.randint(1, 9), pattern, rng.randint(*(steps or cls.STEPS)))

    @property
    def terms(self) -> list[int]:
        """One signed digit a step."""
        return [self.pattern[i % len(self.pattern)] for i in range(self.steps)]

    @property
    def totals(self) -> list[int]:
        """The total modulo 100 after each step."""
        return [total % MODULUS for total in accumulate(self.terms, initial=self.start)][1:]

    @property
    def question(self) -> str:
        return f"{self.start}{''.join(f'{term:+d}' for term in self.pattern)}:{self.labels[0]}"

    @property
    def results(self) -> list[str]:
        return [f"{term:+d}={total:02d}" for term, total in zip(self.terms, self.totals, strict=True)]

    @property
    def answer(self) -> str:
        return f"{self.totals[-1]:02d}"

    def guess(self, rng: random.Random) -> str:
        return f"{rng.randrange(MODULUS):02d}"

    def slip(self, rng: random.Random) -> str:
        return f"{(self.totals[-1] + rng.choice((-3, -2, -1, 1, 2, 3))) % MODULUS:02d}"
