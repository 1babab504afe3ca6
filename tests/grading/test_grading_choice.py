"""Multiple choice: every form in which a letter is, or is not, an answer."""

import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.grading import GradeSettings, grade

GIVEN = [
    (r"\boxed{C}", "C"),
    (r"\boxed{\text{C}}", "C"),
    (r"\boxed{(C)}", "C"),
    (r"\boxed{\textbf{(C)}\ 42}", "C"),
    (r"\boxed{c)}", "C"),
    (r"\boxed{(c)}", "C"),
    (r"\boxed{C. \text{ mitochondria}}", "C"),
    (r"\boxed{A} no, \boxed{B}", "B"),
    ("The answer is (C).", "C"),
    ("The answer is C", "C"),
    ("The answer is **C**.", "C"),
    ("The correct answer is: **(C) 42 m**", "C"),
    ("Answer: C", "C"),
    ("**Answer:** C", "C"),
    ("**Answer: C**", "C"),
    ("Answer:\n\n**C**", "C"),
    ("Answer: $\\text{C}$", "C"),
    ("Final answer — C", "C"),
    ("The correct option is C, because energy is conserved.", "C"),
    ("The best choice would be option D.", "D"),
    ("The answer to this question is B.", "B"),
    ("Therefore option C is correct.", "C"),
    ("(A) is wrong and so is (B). The answer is (D).", "D"),
    ("The answer is A because of symmetry.", "A"),
    ("I thought the answer is B. Wait, no: the answer is C.", "C"),
    ("It follows from the second law.\n\nC", "C"),
    ("It follows.\n(C)", "C"),
    ("It follows.\n**C.** mitochondria", "C"),
    # no answer
    ("A good approach is to integrate.", None),
    ("The answer is a good question.", None),
    ("The answer is A good one to remember", None),
    ("I do not know", None),
    ("The answer is not C", None),
    ("The answer is Carbon", None),
    ("The answer is CO2", None),
    ("The answer is C or D", None),
    ("The answer is (A) and (B).", None),
    (r"\boxed{A, B}", None),
    (r"\boxed{\frac{A}{B}}", None),
    ("Grade A beef", None),
    ("Vitamin C is the cause", None),
    (r"\boxed{42} so the answer is (B)", "B"),  # a box without a letter leaves the word to the rest
    (r"\boxed{C", None),
]


@pytest.mark.parametrize(("text", "letter"), GIVEN)
def test_letter(text, letter):
    verdict = grade(f"A? B? C! The answer is J.</think>\n{text}", letter or "C", "choice")
    assert verdict.extracted == (letter or "")
    assert verdict.correct is (letter is not None)


def test_another_letter_is_wrong():
    verdict = grade("</think>The answer is (B)", "C", "choice")
    assert (verdict.correct, verdict.extracted, verdict.reason) == (False, "B", "different")


def test_a_letter_beyond_the_options_is_no_answer():
    assert grade("</think>The answer is (E)", "C", "choice", n_options=4).extracted == ""
    assert grade("</think>The answer is (E)", "E", "choice", n_options=5).correct


def test_thinking_must_end():
    assert not grade("The answer is (C)", "C", "choice").correct
    assert grade("The answer is (C)", "C", "choice", GradeSettings(require_think_end=False)).correct


@pytest.mark.parametrize("truth", ["42", "K", "c", "AB"])
def test_a_truth_that_is_no_letter_is_refused(truth):
    with pytest.raises(UserError, match="must be a letter from A to J"):
        grade("</think>C", truth, "choice")
