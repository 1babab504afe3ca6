"""The toy task, worked by hand."""

from __future__ import annotations

import random

import pytest

from prefix_opd.tiny.task import STEPS, TEACHER, Problem, Style, grade, random_problem, respond

# 7 + 3 = 10, 10 - 5 = 5, 5 - 9 = -4, which is 96 modulo 100, 96 + 8 = 104, which is 4.
CHAIN = Problem(start=7, terms=(3, -5, -9, 8))


def test_question_and_answer() -> None:
    assert CHAIN.question == "7 a+3 b-5 c-9 d+8"
    assert CHAIN.answer == "04"


def test_careful_response() -> None:
    assert respond(CHAIN, TEACHER, random.Random(0)) == "a+3=10;b-5=05;c-9=96;d+8=04;</think>04<|im_end|>"


def test_quick_response_without_slips() -> None:
    style = Style(quick=1.0, end_of_text=1.0)
    assert respond(CHAIN, style, random.Random(0)) == "?a=10;?b=05;?c=96;?d=04;</think>04<|endoftext|>"


def test_a_slip_is_carried_on() -> None:
    text = respond(CHAIN, Style(careful_slip=1.0), random.Random(0))
    steps, answer = text.removesuffix("<|im_end|>").split("</think>")
    totals = [int(step.split("=")[1]) for step in steps.split(";")[:-1]]
    offs = [(b - a - term) % 100 for a, b, term in zip([7, *totals], totals, CHAIN.terms, strict=False)]
    assert all(off in (1, 2, 3, 97, 98, 99) for off in offs)
    assert answer == f"{totals[-1]:02d}"


def test_answer_slip_leaves_the_steps_alone() -> None:
    text = respond(CHAIN, Style(answer_slip=1.0), random.Random(0))
    assert text.startswith("a+3=10;b-5=05;c-9=96;d+8=04;</think>")
    assert not grade(text, CHAIN.answer)


def test_random_problems() -> None:
    problems = [random_problem(random.Random(seed)) for seed in range(300)]
    assert {len(problem.terms) for problem in problems} == set(range(STEPS[0], STEPS[1] + 1))
    assert {term for problem in problems for term in problem.terms} == set(range(-9, 10)) - {0}
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
