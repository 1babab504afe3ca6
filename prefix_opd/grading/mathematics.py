"""Mathematics: which answer a response gives, and whether it equals the true one."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from prefix_opd.grading.choice import letter_of
from prefix_opd.grading.expression import (
    canonical,
    digits_and_base,
    is_clock,
    is_words,
    number_of,
    tidy,
    unwrapped,
    without_percent,
)
from prefix_opd.grading.text import boxed

_TAIL_CHARS = 1_500
_ANNOUNCED = re.compile(
    r"\banswer\b[\s*_]*(?:\([^()\n]{0,40}\)\s*)?(?:is|are|was|would be|will be|equals|:|=)(?:[\s*_]*:)?(?!\s*not\b)",
    re.IGNORECASE,
)
_MATH = re.compile(
    r"\$\$(?P<a>.{1,500}?)\$\$|\\\[(?P<b>.{1,500}?)\\\]|\\\((?P<c>.{1,500}?)\\\)|(?<![\\\d])\$(?P<d>(?:\\\$|[^$\n]){1,500})\$",
    re.DOTALL,
)
_SENTENCE_END = re.compile(r"(?<!\\)[.!?](?=\s|\*|$)")
_BARE = re.compile(r"[-+−]?\\?\$?[\d.,\s/^*+\-()\[\]{}\\%°π√]{0,80}")
_LETTER_TRUTH = re.compile(r"\(([A-J])\)")

UNCLOSED = "the box was left open"
NONE_FOUND = "no answer was found"


def find_answer(text: str) -> tuple[str, str]:
    """(the answer as spelt, why there is none).

    In this order: the last closed box; what follows the last "answer is", "answer:" or "final answer"; the last
    formula, or a bare number, of the last paragraph. Nothing else is an answer, so a number met by chance is not.
    """
    box, opened = boxed(text)
    if box:
        return box, ""
    if opened:
        return "", UNCLOSED
    tail = text[-_TAIL_CHARS:]
    announced = list(_ANNOUNCED.finditer(tail))
    if announced and (answer := _first_statement(tail[announced[-1].end() :])):
        return answer, ""
    last = tail.strip().rpartition("\n\n")[2]
    if (formulas := _formulas(last)) and (answer := tidy(formulas[-1])):
        return answer, ""
    bare = tidy(last.rpartition("\n")[2])
    if any(c.isdigit() for c in bare) and _BARE.fullmatch(bare):
        return bare, ""
    return "", NONE_FOUND


def _formulas(text: str) -> list[str]:
    return [next(filter(None, match.groups())) for match in _MATH.finditer(text)]


def _first_statement(rest: str) -> str:
    """The formula or the words that an announcement is followed by."""
    line = next((line for line in rest.lstrip(" *_:").splitlines() if line.strip(" *_:")), "")
    # A display formula may span lines; an inline one belongs to this line.
    opening = rest.lstrip(" *_:\n")
    formula = _MATH.match(opening) or _MATH.search(line)
    if formula is not None:
        return tidy(next(filter(None, formula.groups())))
    end = _SENTENCE_END.search(line)
    return tidy(line[: end.start()] if end else line)


def equal(answer: str, truth: str, symbolically: Callable[[str, str], bool]) -> bool:
    """Whether an answer equals the true one.

    What a string comparison or fractions can settle is settled here; the rest goes to ``symbolically``. A per cent
    sign may be left out or added (50, 50%, and 0.5 for 50%), and so may a unit, a degree sign, a currency sign, a base
    that the question fixed, and a variable's name. Words are compared as words.

    Args:
        answer: as the response spells it.
        truth: as the data set spells it.
        symbolically: (answer, truth) -> whether they are equal by algebra. It may raise.
    """
    if _equal_here(answer, truth, symbolically):
        return True
    (answer_bare, answer_percent), (truth_bare, truth_percent) = map(without_percent, (tidy(answer), tidy(truth)))
    if not (answer_percent or truth_percent):
        return False
    if _equal_here(answer_bare, truth_bare, symbolically):
        return True
    if answer_percent == truth_percent:
        return False
    percent, other = (answer_bare, truth_bare) if answer_percent else (truth_bare, answer_bare)
    value, share = number_of(canonical(percent)), number_of(canonical(other))
    return value is not None and share is not None and value / Fraction(100) == share


def _equal_here(answer: str, truth: str, symbolically: Callable[[str, str], bool]) -> bool:
    ours, theirs = canonical(answer), canonical(truth)
    if ours == theirs:
        return bool(ours)
    if (letter := _LETTER_TRUTH.fullmatch(unwrapped(tidy(truth)))) is not None:
        return letter_of(answer) == letter.group(1)
    if is_words(tidy(truth)) or is_clock(theirs):
        return False
    number, true_number = number_of(ours), number_of(theirs)
    if number is not None and true_number is not None:
        if number == true_number:
            return True
        if number.denominator == true_number.denominator == 1:
            return False
    (our_digits, our_base), (their_digits, their_base) = digits_and_base(ours), digits_and_base(theirs)
    if our_base or their_base:
        return our_digits == their_digits and (our_base is None or their_base in (None, our_base))
    return symbolically(tidy(answer), tidy(truth))
