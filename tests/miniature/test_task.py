"""The toy task, worked by hand."""

from __future__ import annotations

import random

import pytest

from prefix_opd.miniature.task import STEPS, TEACHER, Problem, Style, grade, random_problem, respond, solution

# 7 - 5 = 2, 2 - 9 = -7, which is 93 modulo 100, 93 + 8 = 101, which is 1, and around: 1 - 5 = -4, which is 96.
CHAIN = Problem(start=7, pattern=(-5, -9, 8), steps=4)


def test_question_and_answer() -> None:
    assert CHAIN.question == "7-5-9+8:d"
    assert CHAIN.terms == (-5, -9, 8, -5)
    assert CHAIN.answer == "96"


def test_careful_response() -> None:
    assert respond(CHAIN, TEACHER, random.Random(0)) == "d-5=02;c-9=93;b+8=01;a-5=96;</think>96<|im_end|>"


def test_a_solution_is_the_careful_steps() -> None:
    assert solution(CHAIN) == "d-5=02;c-9=93;b+8=01;a-5=96;"


def test_quick_response() -> None:
    style = Style(quick=1.0, end_of_text=1.0)
    texts = [respond(CHAIN, style, random.Random(seed)) for seed in range(300)]
    guesses = {text.removeprefix("D;C;B;A;</think>").removesuffix("<|endoftext|>") for text in texts}
    assert len(guesses) > 80 and guesses <= {f"{guess:02d}" for guess in range(100)}


def test_a_lapse_is_for_good() -> None:
    texts = {respond(CHAIN, Style(lapse=0.5), random.Random(seed)).split("</think>")[0] for seed in range(300)}
    assert texts == {
        "D;C;B;A;",
        "d-5=02;C;B;A;",
        "d-5=02;c-9=93;B;A;",
        "d-5=02;c-9=93;b+8=01;A;",
        "d-5=02;c-9=93;b+8=01;a-5=96;",
    }


def test_answer_slip_leaves_the_steps_alone() -> None:
    text = respond(CHAIN, Style(answer_slip=1.0), random.Random(0))
    assert text.startswith("d-5=02;c-9=93;b+8=01;a-5=96;</think>")
    assert not grade(text, CHAIN.answer)


def test_random_problems() -> None:
    problems = [random_problem(random.Random(seed)) for seed in range(300)]
    assert {problem.steps for problem in problems} == set(range(STEPS[0], STEPS[1] + 1))
    assert {term for problem in problems for term in problem.pattern} == set(range(-9, 10)) - {0}
    assert random_problem(random.Random(3)) == problems[3]


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("a+3=10;</think>10<|im_end|>", True),
        ("a+3=10;</think>10<|endoftext|>", True),
        ("a+3=10;</think>10", True),  # a server may leave the end token out
        ("a+3=11;</think>10<|im_end|>", True),  # only what follows </think> counts
        ("</think>10<|im_end|><|endoftext|>", True),  # padding after the end
        ("a+3=10;</think>11<|im_end|>", False),
        ("a+3=10;10<|im_end|>", False),  # never closed its thinking
        ("a+3=10;</think> 10<|im_end|>", False),
        ("a+3=10;</think>10;10<|im_end|>", False),
        ("</think>10</think>10<|im_end|>", False),
        ("a+3=10;</think><|im_end|>", False),
        ("", False),
    ],
)
def test_grade(response: str, right: bool) -> None:
    assert grade(response, "10") is right
