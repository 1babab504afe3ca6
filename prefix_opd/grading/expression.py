"""One spelling for expressions that are written in several ways, without any algebra."""

from __future__ import annotations

import re
from fractions import Fraction

_WRAPPER = re.compile(r"\\(?:text|mbox|mathrm|mathbf|textbf|textrm|textit|mathit|operatorname)\s*\{([^{}]*)\}")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SLASH = re.compile(r"(-?)(\d+)/(\d+)")
_FRACTION = re.compile(r"(-?)\\frac\{(\d+)\}\{(\d+)\}")
_MEMBER = re.compile(r"^[A-Za-z]\s*\\in\b\s*")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ -][^\W\d_]+)*")
_LONG_WORD = re.compile(r"[^\W\d_]{4}")
_CLOCK = re.compile(r"\d{1,2}:\d{2}")
_BASED = re.compile(r"([0-9A-F]+)_\{?(\d+)\}?")
_PERCENT = re.compile(r"\s*(?:\\?%|\bpercent\b)\s*$", re.IGNORECASE)

_MATH_MARKS = (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"))


def tidy(text: str) -> str:
    """An extracted answer without what surrounds it: dollar signs, bold marks, a full stop, thin spaces."""
    text = text.strip()
    shorter = None
    while shorter != text:
        shorter, text = text, text.strip().rstrip(".,;:").strip()
        for left, right in _MATH_MARKS:
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
                text = text[len(left) : -len(right)]
        if text.endswith("\\"):  # "5\ ." and the like: what was cut off belonged to a spacing command
            text = text[:-1]
    text = re.sub(r",\\!\s*", ",", text).replace("{,}", ",").replace("\\!", "")
    text = re.sub(r"(?<=\d)(?:\\[,;: ]|~)(?=\d{3}(?!\d))", "", text)  # 12\,345
    return _MEMBER.sub("", re.sub(r"\\[,;:]|~", " ", text)).strip()


def canonical(text: str) -> str:
    """The spelling under which answers vote: equal strings are equal answers, unequal ones may still be equal."""
    words, text = is_words(tidy(text)), unwrapped(tidy(text)).replace("−", "-")
    text = re.sub(r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\displaystyle(?![a-zA-Z])|\\\$|\$", "", text)
    text = re.sub(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|°|\\degree(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}", text)
    if words:
        return " ".join(text.split()).casefold()
    text = re.sub(r"\s+", "", text)
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if (slash := _SLASH.fullmatch(text)) is not None:
        text = "{}\\frac{{{}}}{{{}}}".format(*slash.groups())
    return _plain_decimal(text)


def _plain_decimal(text: str) -> str:
    """007 -> 7, +7 -> 7, .50 -> 0.5, 5. -> 5; anything but a plain number stays."""
    if not _NUMBER.fullmatch(text):
        return text
    sign = "-" if text.startswith("-") else ""
    whole, _, rest = text.lstrip("+-").partition(".")
    whole, rest = whole.lstrip("0") or "0", rest.rstrip("0")
    number = f"{whole}.{rest}" if rest else whole
    return number if number == "0" else sign + number


def unwrapped(text: str) -> str:
    """The text without \\text{} and its kin."""
    return _WRAPPER.sub(r"\1", text).strip()


def is_words(text: str) -> bool:
    """Whether the answer is a word or some words, which algebra would read as a product of letters.

    Outside \\text{} a word has four letters at least, for xy and abc are products.
    """
    bare = unwrapped(text)
    return bool(_WORDS.fullmatch(bare)) and (bare != text.strip() or bool(_LONG_WORD.search(bare)))


def is_clock(text: str) -> bool:
    """Whether the answer is a time of day, which algebra would read as a ratio."""
    return bool(_CLOCK.fullmatch(text))


def number_of(text: str) -> Fraction | None:
    """The value of a plain number or a fraction of whole numbers in canonical spelling, else None."""
    if len(text) > 100:
        return None
    if (fraction := _FRACTION.fullmatch(text)) is not None:
        sign, over, under = fraction.groups()
        return Fraction(int(sign + over), int(under)) if int(under) else None
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def without_percent(text: str) -> tuple[str, bool]:
    """(the text without a per cent sign at its end, whether there was one)."""
    shorter = _PERCENT.sub("", text)
    return shorter, shorter != text


def digits_and_base(text: str) -> tuple[str, str | None]:
    """("2516", "8") of "2516_8"; (text, None) of anything else."""
    match = _BASED.fullmatch(text)
    return (match.group(1), match.group(2)) if match else (text, None)
