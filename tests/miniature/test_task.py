"""The toy tasks, worked by hand."""

from __future__ import annotations

import random

import pytest

from prefix_opd.miniature.cells import Cells
from prefix_opd.miniature.chain import Chain
from prefix_opd.miniature.task import TEACHER, Style, grade, respond, solution

# 7 - 5 = 2, 2 - 9 = -7, which is 93 modulo 100, 93 + 8 = 101, which is 1, and around: 1 - 5 = -4, which is 96.
CHAIN = Chain(start=7, pattern=(-5, -9, 8), steps=4)


def test_question_and_answer() -> None:
    assert CHAIN.question == "7-5-9+8:d"
    assert CHAIN.terms == [-5, -9, 8, -5]
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
    problems = [Chain.draw(random.Random(seed)) for seed in range(300)]
    assert {problem.steps for problem in problems} == set(range(4, 27))
    assert {term for problem in problems for term in problem.pattern} == set(range(-9, 10)) - {0}
    assert Chain.draw(random.Random(3)) == problems[3]


# Rule 30: a cell is its left neighbour XOR (itself OR its right neighbour).
# 0000010000 -> the left neighbour, the cell and the right neighbour are 1 -> 0000111000; then
# position 3: 0^(0|1)=1, 4: 0^(1|1)=1, 5: 1^(1|1)=0, 6: 1^(1|0)=0, 7: 1^(0|0)=1 -> 0001100100
CELLS = Cells(row="0000010000", steps=2)


def test_cells() -> None:
    assert CELLS.question == "0000010000:b"
    assert respond(CELLS, TEACHER, random.Random(0)) == "b0000111000;a0001100100;</think>0001100100<|im_end|>"


def test_cells_at_the_ends_see_zeros() -> None:
    # the first: 0^(1|0)=1, its neighbour: 1^(0|0)=1; the last: 0^(1|0)=1, the one before: 0^(0|1)=1
    assert Cells(row="1000000001", steps=1).answer == "1100000011"


def test_a_wrong_answer_of_cells_differs_in_one() -> None:
    for seed in range(30):
        text = respond(CELLS, Style(answer_slip=1.0), random.Random(seed))
        answer = text.partition("</think>")[2].removesuffix("<|im_end|>")
        assert sum(a != b for a, b in zip(answer, CELLS.answer, strict=True)) == 1


def test_guesses_of_cells_are_rows() -> None:
    guesses = {CELLS.guess(random.Random(seed)) for seed in range(300)}
    assert len(guesses) > 200 and all(len(guess) == 10 and set(guess) <= {"0", "1"} for guess in guesses)


def test_a_lapse_in_the_last_steps_alone() -> None:
    style = Style(lapse=1.0, lapse_in_last=2)
    assert respond(CHAIN, style, random.Random(0)).startswith("d-5=02;c-9=93;B;A;</think>")


def test_random_cells() -> None:
    problems = [Cells.draw(random.Random(seed)) for seed in range(300)]
    assert {problem.steps for problem in problems} == set(range(8, 27))
    assert len({problem.row for problem in problems}) > 200
    longest = max(len(solution(problem)) for problem in problems)
    assert longest + 12 == 324 <= Cells.MAX_TOKENS, "26 steps of 12 tokens, </think>, the answer, the end token"


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
