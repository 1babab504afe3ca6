"""Multiple choice: which letter a response gives."""

from __future__ import annotations

import re

from prefix_opd.grading.text import boxed

LETTERS = "ABCDEFGHIJ"

_WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathbf|mathrm|mbox)\s*\{")
_SPACING = re.compile(r"\\[,;: ()\[\]]|[~_]")
_MARKUP = re.compile(r"\\!|[*$`{}]")
_SPACE = re.compile(r"\s+")

# Lower case only in brackets, for "a" is a word.
_LETTER = r"(?:[(\[] ?(?P<bracketed>[A-Ja-j]) ?[)\]]|(?P<bare>[A-J])(?![A-Za-z0-9'’]))"
_VERB = r"(?:is|are|was|would be|will be|must be|should be)"
_ANNOUNCED = re.compile(
    rf"(?i:\b(?:answer|choice|option)(?:\s[^.:\n]{{0,40}}?)?(?:\s{_VERB}\b\s?:?|\s?[:=–—-])\s?"
    rf"(?:(?:the\s)?(?:letter|option|choice|answer)\s?:?\s?)?){_LETTER}"
)
_IS_CORRECT = re.compile(rf"(?i:\b(?:option|choice|answer))\s?{_LETTER}\s?(?i:is\s(?:the\s)?(?:correct|right|best)\b)")
_LINE = re.compile(rf"{_LETTER}(?P<rest>.*)", re.DOTALL)
_ANOTHER = re.compile(r"\s?(?:,|/|&|or\b|and\b)\s?(?:or\s|and\s)?(?:\([A-Ja-j]\)|[A-J](?![A-Za-z0-9'’]))")
_SENTENCE_GOES_ON = re.compile(r"\s(?!(?:because|since|as|for|based|due|and|or|which)\b)[a-z]")
_WORDY = "AI"  # the two letters that are words, too


def letter_of(text: str) -> str | None:
    """The letter that a short text such as a box's contents names: "C", "(C)", "\\text{C}", "C. 42 m"; else None."""
    match = _LINE.fullmatch(_plain(text).strip(" \n"))
    if match is None or _ANOTHER.match(rest := match["rest"]):
        return None
    separated = not rest or rest[0] in ".):,–—" or rest.startswith(" -") or (match["bare"] is None and rest[0] == " ")
    return _letter(match) if separated else None


def find_letter(text: str, n_options: int = len(LETTERS)) -> str | None:
    """The letter that a response gives, or None.

    In this order, the last of each kind: a box; "answer is (C)", "Answer: C", "the correct option is C"; "option C is
    correct"; a last line that is a letter, alone or before its option's text. Two letters at once are no answer, nor is
    a letter beyond the options, nor a letter in a sentence ("A good approach…").

    Args:
        text: what follows the thinking.
        n_options: options that the question had, 2 to 10.
    """
    box, _ = boxed(text)
    plain = _plain(text).strip()
    for letter in (
        letter_of(box) if box else None,
        _announced(plain, _ANNOUNCED),
        _announced(plain, _IS_CORRECT),
        letter_of(plain.rpartition("\n")[2]),
    ):
        if letter is not None:
            return letter if letter in LETTERS[:n_options] else None
    return None


def _plain(text: str) -> str:
    """Without bold marks, LaTeX's wrappers and runs of space, so that the patterns need no repetition of their own."""
    bare = _MARKUP.sub("", _SPACING.sub(" ", _WRAPPER.sub("", text)))
    return _SPACE.sub(lambda space: "\n" if "\n" in space.group() else " ", bare)


def _announced(plain: str, pattern: re.Pattern[str]) -> str | None:
    for match in reversed(list(pattern.finditer(plain))):
        rest = plain[match.end() : match.end() + 40]
        if match["bare"] is not None and match["bare"] in _WORDY and _SENTENCE_GOES_ON.match(rest):
            continue
        return None if _ANOTHER.match(rest) else _letter(match)
    return None


def _letter(match: re.Match[str]) -> str:
    return (match["bracketed"] or match["bare"]).upper()
