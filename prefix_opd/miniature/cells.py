"""The second task: a row of ten cells that changes by one rule, step after step. The answer is the last row.

``0110100010:d`` means: apply the rule four times, at the steps d, c, b, a. A cell of the new row is 1 if exactly one of
these holds: its left neighbour was 1; it or its right neighbour was 1 (rule 30 of the elementary cellular automata).
Beyond both ends stand zeros.

A careful step is the label and the row, 12 tokens with its end; careful answers have 108 to 324 tokens, a prompt 21.
The student's careful answers lapse in the last eight steps alone: unlike in `chain`, it is weak at the end.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from prefix_opd.miniature.task import Problem, Style

WIDTH = 10


@dataclass(frozen=True)
class Cells(Problem):
    """One row. Example: ``Cells("0000010000", steps=1)`` has the answer ``0000111000``."""

    SOURCE: ClassVar = "tiny/cells"
    STEPS: ClassVar = (8, 26)
    MAX_TOKENS: ClassVar = 336
    BASE: ClassVar = Style(quick=0.88, lapse=0.08, lapse_in_last=8, answer_slip=0.2, end_of_text=0.92)

    row: str
    """`WIDTH` digits, 0 or 1."""
    steps: int

    @classmethod
    def draw(cls, rng: random.Random, steps: tuple[int, int] | None = None) -> Cells:
        return cls(_any_row(rng), rng.randint(*(steps or cls.STEPS)))

    @property
    def question(self) -> str:
        return f"{self.row}:{self.labels[0]}"

    @property
    def results(self) -> list[str]:
        """The row after each step."""
        rows = [self.row]
        for _ in range(self.steps):
            rows.append(following(rows[-1]))
        return rows[1:]

    @property
    def answer(self) -> str:
        return self.results[-1]

    def guess(self, rng: random.Random) -> str:
        return _any_row(rng)

    def slip(self, rng: random.Random) -> str:
        """One cell is wrong."""
        at, row = rng.randrange(WIDTH), self.answer
        return row[:at] + str(1 - int(row[at])) + row[at + 1 :]


def following(row: str) -> str:
    """The row after ``row``, of the same length."""
    cells = [0, *map(int, row), 0]
    return "".join(str(left ^ (own | right)) for left, own, right in zip(cells, cells[1:], cells[2:], strict=False))


def _any_row(rng: random.Random) -> str:
    return f"{rng.getrandbits(WIDTH):0{WIDTH}b}"
