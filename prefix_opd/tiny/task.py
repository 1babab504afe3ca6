"""The task: running totals of a chain of labelled + and - digits, modulo 100.

A problem reads ``7 a+3 b-5``: start at 7, then add 3 (step a), then take 5 away (step b). The answer is ``05``.

The *careful* style writes every step out, ``a+3=10;b-5=05;``, so that each token is easy to predict.
The *quick* style only guesses the next total, ``?a=10;?b=05;``, and is often wrong. The two styles differ in the
first token already. The labels let a tiny model find its place in the question.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

THINK_END = "</think>"
END_OF_TURN = "<|im_end|>"  # how the teacher ends
END_OF_TEXT = "<|endoftext|>"  # how the base student ends
STEPS = (12, 20)  # fewest and most steps: careful answers of 88 to 144 tokens
MODULUS = 100


@dataclass(frozen=True)
class Problem:
    """One chain. Example: ``Problem(start=7, terms=(3, -5))`` asks for 7 + 3 - 5."""

    start: int
    """1 to 9."""
    terms: tuple[int, ...]
    """One signed digit a step, never 0."""

    @property
    def question(self) -> str:
        return " ".join([str(self.start)] + [f"{_label(i)}{term:+d}" for i, term in enumerate(self.terms)])

    @property
    def answer(self) -> str:
        return f"{(self.start + sum(self.terms)) % MODULUS:02d}"


@dataclass(frozen=True)
class Style:
    """How a response is written; every field is a probability. The default makes no mistakes."""

    quick: float = 0.0
    """Share of responses in the quick style."""
    careful_slip: float = 0.0
    """A careful step's total is wrong."""
    quick_slip: float = 0.0
    """A quick step's total is wrong."""
    answer_slip: float = 0.0
    """The answer is not the last total."""
    end_of_text: float = 0.0
    """The response ends with ``<|endoftext|>`` instead of ``<|im_end|>``."""


TEACHER = Style()
BASE = Style(quick=0.85, careful_slip=0.015, quick_slip=0.5, answer_slip=0.25, end_of_text=0.92)


def random_problem(rng: random.Random, steps: tuple[int, int] = STEPS) -> Problem:
    """Draw a problem whose number of steps is uniform between ``steps[0]`` and ``steps[1]``, both included."""
    count = rng.randint(*steps)
    return Problem(rng.randint(1, 9), tuple(rng.choice((-1, 1)) * rng.randint(1, 9) for _ in range(count)))


def respond(problem: Problem, style: Style, rng: random.Random) -> str:
    """Write a response in ``style``: what follows ``<think>``, end token included."""
    is_quick = rng.random() < style.quick
    slip = style.quick_slip if is_quick else style.careful_slip
    total, text = problem.start, ""
    for i, term in enumerate(problem.terms):
        total = _slip((total + term) % MODULUS, slip, rng)
        text += f"?{_label(i)}={total:02d};" if is_quick else f"{_label(i)}{term:+d}={total:02d};"
    answer = _slip(total, style.answer_slip, rng)
    end = END_OF_TEXT if rng.random() < style.end_of_text else END_OF_TURN
    return f"{text}{THINK_END}{answer:02d}{end}"


def grade(response_text: str, ground_truth: str) -> bool:
    """True if what follows ``</think>`` is exactly the ground truth. End tokens at the very end do not count."""
    _, closed, answer = response_text.partition(THINK_END)
    while answer.endswith((END_OF_TURN, END_OF_TEXT)):
        answer = answer.removesuffix(END_OF_TURN).removesuffix(END_OF_TEXT)
    return bool(closed) and answer == ground_truth


def _label(step: int) -> str:
    return chr(ord("a") + step)


def _slip(total: int, probability: float, rng: random.Random) -> int:
    if rng.random() >= probability:
        return total
    return (total + rng.choice((-3, -2, -1, 1, 2, 3))) % MODULUS
