"""The task: a running total, modulo 100, of three signed digits that repeat.

``7+3-5+8:d`` means: start at 7, add 3 (step d), subtract 5 (step c), add 8 (step b), add 3 again (step a, the last one,
because the labels count down). The answer is ``16``. Like a mathematics problem, it has a short question and a long
answer.

The *careful* style writes every step, ``d+3=10;c-5=05;``, so each token is easy to predict. The *quick* style only
counts down, ``D;C;B;A;``, and then guesses. The styles differ from the first token on: capital letters follow capital
letters.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass, replace

THINK_END = "</think>"
END_OF_TURN = "<|im_end|>"  # how the teacher ends
END_OF_TEXT = "<|endoftext|>"  # how the base student ends
STEPS = (4, 26)  # fewest and most steps: careful answers of 32 to 186 tokens
PATTERN = 3  # terms that repeat
MODULUS = 100


@dataclass(frozen=True)
class Problem:
    """One chain. Example: ``Problem(start=7, pattern=(3, -5, 8), steps=4)`` asks for 7 + 3 - 5 + 8 + 3."""

    start: int
    """1 to 9."""
    pattern: tuple[int, ...]
    """The signed digits that repeat, never 0."""
    steps: int
    """1 to 26."""

    @property
    def terms(self) -> tuple[int, ...]:
        """One signed digit a step."""
        return tuple(self.pattern[i % len(self.pattern)] for i in range(self.steps))

    @property
    def labels(self) -> str:
        """One letter a step, down to ``a``."""
        return string.ascii_lowercase[self.steps - 1 :: -1]

    @property
    def question(self) -> str:
        return f"{self.start}{''.join(f'{term:+d}' for term in self.pattern)}:{self.labels[0]}"

    @property
    def answer(self) -> str:
        return f"{(self.start + sum(self.terms)) % MODULUS:02d}"


@dataclass(frozen=True)
class Style:
    """How a response is written; every field is a probability. The default makes no mistakes."""

    quick: float = 0.0
    """Share of responses in the quick style."""
    lapse: float = 0.0
    """At a careful step: the rest of the response is quick."""
    answer_slip: float = 0.0
    """The answer differs from the last total."""
    end_of_text: float = 0.0
    """The response ends with ``<|endoftext|>`` instead of ``<|im_end|>``."""


TEACHER = Style()
BASE = Style(quick=0.88, lapse=0.02, answer_slip=0.2, end_of_text=0.92)
BALANCED = replace(BASE, quick=0.5)
"""``BASE``, but as often careful as quick: what the base student reads first, see ``build``."""


def random_problem(rng: random.Random, steps: tuple[int, int] = STEPS) -> Problem:
    """Draw a problem whose number of steps is uniform between ``steps[0]`` and ``steps[1]``, both included."""
    pattern = tuple(rng.choice((-1, 1)) * rng.randint(1, 9) for _ in range(PATTERN))
    return Problem(rng.randint(1, 9), pattern, rng.randint(*steps))


def respond(problem: Problem, style: Style, rng: random.Random) -> str:
    """Write a response in ``style``: what follows ``<think>``, end token included."""
    is_quick = rng.random() < style.quick
    total, text = problem.start, ""
    for label, term in zip(problem.labels, problem.terms, strict=True):
        is_quick = is_quick or rng.random() < style.lapse
        total = (total + term) % MODULUS
        text += f"{label.upper()};" if is_quick else f"{label}{term:+d}={total:02d};"
    answer = rng.randrange(MODULUS) if is_quick else _slip(total, style.answer_slip, rng)
    end = END_OF_TEXT if rng.random() < style.end_of_text else END_OF_TURN
    return f"{text}{THINK_END}{answer:02d}{end}"


def solution(problem: Problem) -> str:
    """The careful steps without the answer. Example: ``d+3=10;c-5=05;b+8=13;a+3=16;``."""
    return respond(problem, TEACHER, random.Random(0)).partition(THINK_END)[0]


def with_solution(problem: Problem) -> str:
    """The question with the solution above it, as the reader and the teacher of ``tiny/self_hint`` see it."""
    return f"{solution(problem)}\n{problem.question}"


def grade(response_text: str, ground_truth: str) -> bool:
    """Whether the text after ``</think>``, without end tokens at its end, is the ground truth."""
    _, closed, answer = response_text.partition(THINK_END)
    while answer.endswith((END_OF_TURN, END_OF_TEXT)):
        answer = answer.removesuffix(END_OF_TURN).removesuffix(END_OF_TEXT)
    return bool(closed) and answer == ground_truth


def _slip(total: int, probability: float, rng: random.Random) -> int:
    if rng.random() >= probability:
        return total
    return (total + rng.choice((-3, -2, -1, 1, 2, 3))) % MODULUS
