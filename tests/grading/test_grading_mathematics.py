"""Real ways of writing an answer, each with the verdict that a person would give."""

import json
import random
from pathlib import Path

import pytest

from prefix_opd.grading import GradeSettings, grade
from prefix_opd.grading.expression import canonical

HERE = Path(__file__).parent
CASES = [tuple(json.loads(line).values()) for line in (HERE / "cases.jsonl").read_text("utf-8").splitlines()]
REAL = json.loads((HERE / "real_answers.json").read_text("utf-8"))["answers"]

RIGHT = [
    # spelling of one and the same fraction
    (r"so \boxed{\dfrac{1}{2}}", r"\frac{1}{2}"),
    (r"so \boxed{\frac12}", r"\frac{1}{2}"),
    (r"so \boxed{1/2}", r"\frac{1}{2}"),
    (r"so \boxed{0.5}", r"\frac12"),
    (r"so \boxed{-\frac{1}{2}}", r"\frac{-1}{2}"),
    (r"so \boxed{\frac{2}{4}}", r"\frac{1}{2}"),
    (r"so \boxed{2\frac{1}{2}}", r"\frac{5}{2}"),
    (r"so \boxed{137.5}", r"137 \frac{1}{2}"),
    (r"so \boxed{\tfrac{\sqrt{3}}{3}}", r"\frac{1}{\sqrt{3}}"),
    # numbers
    (r"so \boxed{033}", "33"),
    (r"so \boxed{.0000672}", r"6.72\times 10^{-5}"),
    (r"so \boxed{58{,}500}", "58,500"),
    (r"so \boxed{10080}", r"10,\!080"),
    (r"so \boxed{12\,345}", "12345"),
    (r"so \boxed{11111111100}", r"11,\! 111,\! 111,\! 100"),
    (r"so \boxed{2^{10}}", "1024"),
    (r"so \boxed{−7}", "-7"),
    (r"so \boxed{\binom{5}{2}}", "10"),
    (r"so \boxed{\log_2 8}", "3"),
    # intervals, sets, tuples, lists
    (r"so \boxed{[0,1)}", r"\left[0, 1\right)"),
    (r"so \boxed{(1,\infty)\cup(-\infty,0)}", r"(-\infty, 0) \cup (1, \infty)"),
    (r"so \boxed{[-2,7]}", r"x \in [-2,7]"),
    (r"so \boxed{-2 \le x \le 7}", r"x \in [-2,7]"),
    (r"so \boxed{\{2,1\}}", r"\{1,2\}"),
    (r"so \boxed{7, 3, 5}", "3, 5, 7"),
    (r"so \boxed{(3,\pi/2)}", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"so \boxed{1+\sqrt{19}, 1-\sqrt{19}}", r"1 \pm \sqrt{19}"),
    (r"$x = \boxed{2}$ or $\boxed{3}$".replace("$x = ", "$"), "2,3"),
    # units, signs, money, degrees, bases
    (r"so \boxed{12\text{ cm}}", "12"),
    (r"so \boxed{15}", r"15\mbox{ cm}^2"),
    (r"so \boxed{5.4}", r"5.4 \text{ cents}"),
    (r"so \boxed{50\%}", "50"),
    (r"so \boxed{50}", r"50\%"),
    (r"so \boxed{0.5}", r"50\%"),
    (r"so \boxed{90^\circ}", "90"),
    (r"so \boxed{90}", r"90^{\circ}"),
    (r"so \boxed{\$18.90}", r"\$18.90"),
    (r"so \boxed{18.9}", r"\$18.90"),
    (r"so \boxed{2516}", "2516_8"),
    (r"so \boxed{4210_5}", "4210_{5}"),
    # words and letters
    (r"so \boxed{\text{Evelyn}}", r"\text{Evelyn}"),
    (r"so \boxed{Evelyn}", r"\text{Evelyn}"),
    (r"so \boxed{\textbf{evelyn}}", r"\text{Evelyn}"),
    (r"so \boxed{B}", r"\text{(B)}"),
    (r"so \boxed{\textbf{(B)}\ 42}", r"\text{(B)}"),
    (r"so \boxed{10:30}", "10:30"),
    # algebra
    (r"so \boxed{q - p}", "-p+q"),
    (r"so \boxed{x = 5}", "5"),
    (r"so \boxed{5}", "x=5"),
    (r"so \boxed{2x+3}", "y = 2x + 3"),
    (r"so \boxed{6-5i}", "6 - 5i"),
    (r"so \boxed{\begin{bmatrix}1\\2\end{bmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    # boxes
    (r"first \boxed{41}, no: \boxed{42}", "42"),
    (r"\boxed{\boxed{42}}", "42"),
    (r"\boxed{\left\{\frac{1}{2}, \sqrt{\frac{3}{4}}\right\}}", r"\{\frac{1}{2}, \frac{\sqrt{3}}{2}\}"),
    (r"\boxed{42} and then an empty \boxed{}", "42"),
    (r"\boxed 5$ is it", "5"),
    (r"\fbox{42}", "42"),
    (r"\boxed{\,42\,}.", "42"),
    ("\\boxed{42} " * 2000 + "\\boxed{4", "42"),  # a loop that was cut off has given its answer
    # no box
    ("**Final Answer:** $\\frac{3}{4}$", r"\frac{3}{4}"),
    ("The answer is 42.", "42"),
    ("The final answer is: 3.5 meters.", "3.5"),
    ("The answer (in degrees) is $30^\\circ$.", "30"),
    ("Answer:\n\n\\[\n\\frac{14}{3}\n\\]", r"\frac{14}{3}"),
    ("We add them.\n\nHence $a + b = 7$ and\n$$\nx = 12.\n$$", "12"),
    ("The sum is as follows.\n\n204", "204"),
    ("So the answer is Evelyn.", r"\text{Evelyn}"),
    ("So the answer is $\\$36$.", r"\$36"),
    (r"\boxed{42}<|im_end|>", "42"),
]

WRONG = [
    (r"so \boxed{\frac{2}{1}}", r"\frac{1}{2}", "different"),
    (r"so \boxed{0.333}", r"\frac{1}{3}", "different"),
    (r"so \boxed{3.14}", r"\pi", "different"),
    (r"so \boxed{(0,1)}", "[0,1]", "different"),
    (r"so \boxed{(2,1)}", "(1,2)", "different"),
    (r"so \boxed{\{1,2,3\}}", r"\{1,2\}", "different"),
    (r"so \boxed{1}", r"\pm 1", "different"),
    (r"so \boxed{\text{Evlyen}}", r"\text{Evelyn}", "different"),
    (r"so \boxed{nevEly}", r"\text{Evelyn}", "different"),  # the same letters: no product of symbols
    (r"so \boxed{5\%}", "50", "different"),
    (r"so \boxed{0.05}", r"50\%", "different"),
    (r"so \boxed{2516_9}", "2516_8", "different"),
    (r"so \boxed{20:60}", "10:30", "different"),
    (r"so \boxed{C}", r"\text{(B)}", "different"),
    (r"so \boxed{2\pi r}", r"2\pi", "different"),
    (r"so \boxed{1234}", "1,235", "different"),
    (r"\boxed{42}, no: \boxed{41}", "42", "different"),
    (r"\boxed{41}, or \boxed{42}", "42", "different"),  # naming both is not being right
    (r"\boxed{42", "42", "the box was left open"),
    (r"\boxed{\frac{1}{2}", r"\frac{1}{2}", "the box was left open"),
    ("The answer is \\boxed{42", "42", "the box was left open"),
    ("", "42", "nothing follows the thinking"),
    ("  \n<|im_end|>", "42", "nothing follows the thinking"),
    ("We tried 42 and then gave up on it altogether", "42", "no answer was found"),
    ("The answer is not 42", "42", "no answer was found"),
    (r"\boxed{}", "42", "no answer was found"),
    (r"\boxed{" + "1+" * 400 + "1}", "401", "the answer is too long to be parsed"),
    (r"\boxed{\frac{1}{0}}", "1", "different"),
    (r"\boxed{\frac{}{}\sqrt}", "1", "different"),
    (r"\boxed{)(}", "1", "different"),
]


@pytest.mark.parametrize(("text", "truth"), RIGHT)
def test_right(text, truth):
    verdict = grade("let me think, 17?\n</think>\n\n" + text, truth, "math")
    assert (verdict.correct, verdict.reason) == (True, "equal"), verdict


@pytest.mark.parametrize(("text", "truth", "reason"), WRONG)
def test_wrong(text, truth, reason):
    verdict = grade("let me think, 42?\n</think>\n\n" + text, truth, "math")
    assert (verdict.correct, verdict.reason) == (False, reason), verdict


THINKING = [
    # response, require_think_end, correct
    (r"so it is \boxed{42}", True, False),  # only inside the thinking
    (r"so it is \boxed{42}", False, True),
    ("so it is \\boxed{42}\n" * 3000, True, False),  # a loop inside the thinking
    (r"it is 41</think>\boxed{42}", True, True),
    (r"\boxed{42}</think>It is 41, I think.", True, False),
    (r"\boxed{42}</think>", True, False),
    (r"a</think>\boxed{41}</think>\boxed{42}", True, True),  # the last </think> counts
    (r"a</think>\boxed{42}<think>hm, \boxed{41}", True, True),  # thinking that is opened again is no answer
    (r"<think>a</think>\boxed{42}", True, True),
    (r"<think>\boxed{42}", True, False),
]


@pytest.mark.parametrize(("response", "require", "correct"), THINKING)
def test_where_the_answer_stands(response, require, correct):
    assert grade(response, "42", "math", GradeSettings(require_think_end=require)).correct is correct


@pytest.mark.parametrize(("kind", "text", "truth", "right"), CASES)
def test_case(kind, text, truth, right):
    """Forms around an answer, spellings and kinds of values. The truth "none" is a text without an option."""
    if truth == "none":
        assert grade(f"17?</think>{text}", "C", kind).extracted == ""
    else:
        verdict = grade(f"17?</think>{text}", truth, kind)
        assert verdict.correct is right, verdict


@pytest.mark.parametrize("form", ["so \\boxed{%s}.", "**Answer:** $%s$", "hence\n\n$$%s$$"])
def test_every_real_answer_equals_itself(form):
    rejected = [truth for truth in REAL if not grade(f"</think>{form.replace('%s', truth)}", truth, "math").correct]
    assert not rejected


def test_no_real_answer_equals_another():
    draw = random.Random(0)
    pairs = [pair for pair in (draw.sample(REAL, 2) for _ in range(200)) if len({canonical(one) for one in pair}) == 2]
    assert len(pairs) > 150
    accepted = [(a, b) for a, b in pairs if grade(f"</think>\\boxed{{{a}}}", b, "math").correct]
    assert not accepted
