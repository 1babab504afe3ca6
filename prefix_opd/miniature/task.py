"""What the miniature's tasks share: how a response is written, in which style, and how it is graded.

A problem is a chain of labelled steps. The labels count down to ``a``, so a response has a known end. The *careful*
style writes the result of every step, so each token is easy to predict. The *quick* style only counts down,
``D;C;B;A;``, and then guesses. The styles differ from the first token on: capital letters follow capital letters.
"""

from __future__ import annotations

import random
import string
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

THINK_END = "</think>"
END_OF_TURN = "<|im_end|>"  # how the teacher ends
END_OF_TEXT = "<|endoftext|>"  # how the base student ends


@dataclass(frozen=True)
class Style:
    """How a response is written. The default makes no mistakes."""

    quick: float = 0.0
    """Share of responses in the quick style."""
    lapse: float = 0.0
    """Probability at a careful step that the rest of the response is quick."""
    lapse_in_last: int | None = None
    """Number of last steps at which a response lapses; None: all."""
    answer_slip: float = 0.0
    """Probability that the answer differs from the last step."""
    end_of_text: float = 0.0
    """Probability that the response ends with ``<|endoftext|>`` instead of ``<|im_end|>``."""


TEACHER = Style()


class Problem(ABC):
    """One problem of a task."""

    SOURCE: ClassVar[str]
    """``data_source`` of its rows."""
    STEPS: ClassVar[tuple[int, int]]
    """Fewest and most steps, at most 26."""
    MAX_TOKENS: ClassVar[int]
    """``data.max_response_length`` of its experiments."""
    BASE: ClassVar[Style]
    """How the base student answers."""

    steps: int
    """1 to 26."""

    @classmethod
    @abstractmethod
    def draw(cls, rng: random.Random, steps: tuple[int, int] | None = None) -> Self:
        """Draw a problem; its number of steps is uniform from ``steps[0]`` to ``steps[1]``, by default `STEPS`."""

    @property
    @abstractmethod
    def question(self) -> str: ...

    @property
    @abstractmethod
    def results(self) -> list[str]:
        """The text of each careful step after its label; the last one ends with the answer."""

    @property
    @abstractmethod
    def answer(self) -> str: ...

    @abstractmethod
    def guess(self, rng: random.Random) -> str:
        """Any answer."""

    @abstractmethod
    def slip(self, rng: random.Random) -> str:
        """A wrong answer near the true one."""

    @property
    def labels(self) -> str:
        """One letter a step, down to ``a``."""
        return string.ascii_lowercase[self.steps - 1 :: -1]


def respond(problem: Problem, style: Style, rng: random.Random) -> str:
    """Write a response in ``style``: what follows ``<think>``, end token included."""
    is_quick, text = rng.random() < style.quick, ""
    last = problem.steps if style.lapse_in_last is None else style.lapse_in_last
    for left, label, result in zip(range(problem.steps, 0, -1), problem.labels, problem.results, strict=True):
        is_quick = is_quick or (left <= last and rng.random() < style.lapse)
        text += f"{label.upper()};" if is_quick else f"{label}{result};"
    if is_quick:
        answer = problem.guess(rng)
    else:
        answer = problem.slip(rng) if rng.random() < style.answer_slip else problem.answer
    end = END_OF_TEXT if rng.random() < style.end_of_text else END_OF_TURN
    return f"{text}{THINK_END}{answer}{end}"


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
