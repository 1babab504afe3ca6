"""A canonical spelling of expressions, without algebra."""

from __future__ import annotations

import functools
import re
import unicodedata
from fractions import Fraction

from prefix_opd.grading.notation import COMMANDS, plain_latex

_MARKS = (
    *(("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("__", "__"), ("*", "*"), ("`", "`"), ("==", "==")),
    *(('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ("``", "''")),
    *(("「", "」"), ("『", "』"), ("【", "】"), ("<<", ">>")),
)
_INVISIBLE = re.compile("[\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_MEMBER = re.compile(r"^[A-Za-z]\s*(?:\\(?:in|equiv)(?![A-Za-z])|[∈≡])\s*")
_WRAPPER = re.compile(rf"\\(?:{COMMANDS}|(?:text)?color\s*\{{[\w!]+\}})\s*\{{([^{{}}]*)\}}")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '-][^\W\d_]+)*")
_PLURAL = re.compile(r"(?<=[a-z]{2}[^\W\d_s])s\b")
_LONG_WORD = re.compile(r"[^\W\d_]{4}")
_SHORT_WORDS = {"yes", "no", "odd"}

_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
_POWER_OF_TEN = re.compile(r"(?:(.+?)(?:\\times|\\cdot|\*|x))?10\^(?:\{([-+]?\d{1,3})\}|(\d))")
_E_NOTATION = re.compile(r"([-+]?(?:\d+(?:\.\d*)?|\.\d+))[eE]([-+]?\d{1,3})")
_ENDLESS = re.compile(r"(?<![\d.])(\d*\.\d{0,30}?)(?:(\d)\2{2,}|(\d{2,9}?)\3+)\s*(?:\\[lc]?dots(?![A-Za-z])|\.\.\.|…)")
_REPEATING = re.compile(r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*(?:\{(\d{1,30})\}|(\d))|\((\d{1,30})\)(?![\d(^]))")
_DOTTED = re.compile(r"\\dot\s*(?:\{(\d)\}|(\d))(\d*)\\dot\s*(?:\{(\d)\}|(\d))")  # 0.\dot{1}4285\dot{7}
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_LATEX_THOUSANDS = re.compile(r"(?<=\d)(?:\\[,;: ]|~|\{,\}|,\\!\s*)(?=\d{3}(?!\d))")  # 12\,345 and 58{,}500
_SPACED_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_FRACTION = re.compile(r"(-?)(\d*)\\frac\{(-?\d+)\}\{(\d+)\}")
_BUILDER = re.compile(r"^\\?\{\s*[a-z]\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\\mid\b|\\?\||:)(.*)\\?\}$")
_BASED = re.compile(r"\(?([0-9A-F]+)\)?(?:_\{?\(?(\d+)\)?\}?|\s*\(?(?:in\s?)?base\s?(\d+)\)?)")
_PERCENT = re.compile(r"\s*\\?%$")

_ONES = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen",
)
_TENS = re.findall(r"\w+", "twenty thirty forty fifty sixty seventy eighty ninety")
_NUMERALS: dict[str, int | str] = {word: value for value, word in enumerate(_ONES)} | {
    f"{ten}-{one}".removesuffix("-zero"): 10 * tens + ones
    for tens, ten in enumerate(_TENS, 2)
    for ones, one in enumerate(_ONES[:10])
}
_PARTS = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "fourth": 4,
    "quarter": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}
for _part, _under in _PARTS.items():
    _NUMERALS |= {f"{one}-{_part}{s}": f"{value}/{_under}" for value, one in enumerate(_ONES[:10]) for s in ("", "s")}
_NUMERALS |= {word.replace("-", " "): value for word, value in _NUMERALS.items()}
_NUMERAL = re.compile(
    rf"(?i)^(\\text\w*\s*\{{\s*|)(negative\s+|minus\s+|)({'|'.join(sorted(_NUMERALS, reverse=True))})\b"
    r"(?!-|\s+of\b)(?:\s+\(\d+\)$)?"
)
_NAMED = {
    "infinity": r"\infty", "empty set": r"\emptyset", "all real": r"\mathbb{R}", "all real number": r"\mathbb{R}"
}  # fmt: skip

_UNIT = (
    r"[cdkmunp]?m|km/h|mi|in|ft|yd|[munk]?g|lbs?|oz|[mu]?[lL]|gal|hrs?|h|mins?|secs?|[munp]?s|mph|kph|rpm|[kMGT]?Hz|"
    r"[munkMG]?[NJWVA]|[munp][CFTH]|[kMG]?eV|[kMGT]B|kWh|[kMG]?Pa|[mun]mol|Wb|dB|K|sq|cu|USD|EUR|[AaPp]\.?[Mm]\.?|"
    r"(?:(?<=0\^\{\d\}\s)|(?<=0\^\{-\d\}\s)|(?<=\^\{\d\d\}\s)|(?<=\^\{-\d\d\}\s))[CMTFH]"  # not 5 C: a constant
)
_SIGNS = (
    r"(?:[kMm]\s*)?\\Omega(?![A-Za-z])|\\(?:AA|ell)(?![A-Za-z])|"
    r"\\mu\s*(?:mol|Hz|Pa|eV|[mgsLlFAVWCHJNT])(?![A-Za-z])(?!\s*[A-Za-z])|"
    r"(?:平方|立方)?(?:厘米|毫米|千米|公里|米|千克|公斤|[元円圆人个個名种種次度天日年月岁歳分秒块本枚台克升只]|小时|時間)"
)
_WORD = (
    rf"(?!(?:{'|'.join(_NUMERALS)}|hundred|thousand)\b)(?>(?:{_SIGNS}|"
    rf"(?:[A-Za-z'’-]{{4,}}|(?=[a-z]*[aeiou])[a-z]{{3}}|of|in|a|an|is|as|we|by|so|{_UNIT})(?![A-Za-z'’.-]))"
    rf"(?:\s*\^\s*\{{?-?[1-4]\}}?)?)"
)
_PER = r"(?:\s*(?:[/·]|\\cdot(?![A-Za-z]))\s*|\s+)"
_EXPONENT = re.compile(r"\^\s*\{?-?\d\}?")
_PRODUCT = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])(?!\s*10)[^=]*$")  # the n of n^2 m
_TEXT = (
    r"\\(?:text(?:bf|it|rm|normal)?|[mh]box|mathrm|operatorname)\s*\{((?:[^{}]|\^\{-?\d\})*)\}(?:\s*\^\s*\{?-?\d\}?)?"
)
_TEXT_AFTER = re.compile(
    r"(?P<value>.*?[^\s=<>+(/,-])(?P<words>(?:\s*(?:(?:/|\\cdot\b|\\times\b)\s*)?"
    rf"(?:(?:\\mu\s*)?{_TEXT}|(?<=\}})\s*{_SIGNS}|\\frac\s*\{{\s*{_TEXT}\s*\}}\s*\{{\s*{_TEXT}\s*\}}))+)"
)
_CLAUSE_AFTER = re.compile(
    r"(?P<value>.*?\S)\s*(?:[,;]|--?|—)\s*(?:and\s)?(?P<words>(?:as|which|where|since|because|for|so|that|this|when|with|"
    r"thus|hence|by|the|who|whose|it|we|after|given|assuming|rounded|i\.e\.|namely|in|from|to)\s[^\d\\$]*)"
)
_YES_OR_NO = re.compile(
    r"(?P<value>(?i:yes|no|true|false))(?!\W+(?i:(?:but\s)?only|if|when|unless|and|or|no|yes)\b)\s*(?:\(.*|"
    r"[,.;:!—–-](?:[^\d\\$]*|\s*(?:because|since|take|for\s(?:instance|example))\b.*)|(?:it|they|there)\s(?:is|are|does|do)$)"
)
_WORD_WITH_CLAUSE = re.compile(
    r"(?P<value>(?:an?\s)?[^\W\d_]+)(?:,\s(?:but\s)?not|\s*,?\s+\(?(?:because|since|rather))\s.*"
)
_NUMBER_WITH_CLAUSE = re.compile(
    r"(?P<value>[-+]?[\d.,/]*\d%?)\s*,?\s+(?:-\sthe|which(?!\s\w+\s(?:wrong|incorrect|false|impossible))|"
    r"when|where|because|since|as|at|attained|achieved|reached|obtained)\s(?:(?!\s(?:and|or)\s|;).)*"
)
_DENIAL_AFTER = re.compile(
    r"(?P<value>.*?[^\s,])(?<!\bis)(?<!\bare)\s*,?\s+(?:-\s)?\(?(?:(?:and|but)\s)?(?:not|rather than|instead of)\s[^=]*"
)
_TH = r"(?:\\(?:text|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}|(?:st|nd|rd|th)(?![A-Za-z]))"
_ORDINAL = re.compile(rf"(?<=\d)\s*(?:\^\s*)?(?:\{{\s*{_TH}\s*\}}|{_TH})")
_TEXT_BEFORE = re.compile(r"(?P<words>\\text\w*\s*\{[A-Za-z ,:'’]+\})\s*(?P<value>[-+]?[\d.].*|\([^()]*,[^()]*\))")
_NOTE_AFTER = re.compile(
    r"(?P<value>.*(?:[\d)\]}%!]|[a-z]{3}))\s+\((?:(?P<words>[A-Za-z][A-Za-z ,.'’-]{2,})|"
    r"(?:since|because|as|i\.e\.,?|namely|approx\w*\.?|about|\\approx|which|where|by|from)\s[^()]*)\)"
)
_OR_ABOUT = re.compile(
    r"\s*(?:\\text\s*\{\s*)?\(\s*(?:\\text\s*\{\s*)?(?:(?:or|about|approx(?:imately|\.)?|roughly)[\s}]+|\\approx\s*){1,2}"
    r"[\d.,]+\s*\)\s*\}?$|"
    r",?\s+or\s+(?:about|approximately|roughly)\s+[\d.,]+\s*\\?%?$|(?<=\S)\s*\((?:or\s)?[\d.,]+\s*\\?%\)$"  # 3/5 (60%)
)
_WORDS_AFTER = re.compile(
    r"(?P<value>.*(?:[\d)\]}%!]|\\pi(?=\s+[A-Za-z]{2})))"
    r"(?:\s+|(?<=\d)(?=(?:[cmk]m|[mk]g|m[lL]|mph|lbs?|hrs?|mins?|secs?)(?![A-Za-z])|\\(?:Omega|AA|mu)|[\u4e00-\u9fff]))"
    rf"(?P<words>{_WORD}(?:{_PER}(?:{_WORD}|\({_WORD}(?:{_PER}{_WORD})*\)))*)"
)
_CHANGES_THE_VALUE = re.compile(
    r"^\s*(?:and|squared|cubed|to)\b|^\s*(?-i:[ijkexyznd])\s*$|\b(?:or|not|no|if|mod|modulo|more|less|fewer|least|most|than|"
    r"times|over|twice|double|triple|negative|half|halves|thirds?|quarters?|plus|minus|divided|factorial|wrong|incorrect|"
    r"false|impossible|undefined|above|below|except|choose|base)\b|\d|\\(?:sqrt|pi)",
    re.IGNORECASE,
)
_LARGE = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LARGE_AFTER = re.compile(rf"(\d)\s*(\\text\s*\{{\s*)?({'|'.join(_LARGE)})\b(?(2)(?:\s*\}})?)")
_FILLER = re.compile(
    r"(?:\\text\s*\{\s*)?(?:(?:approximately|about|around|roughly|exactly|simply|just|only|indeed|clearly|therefore|"
    r"thus|hence|so|(?:final |correct )?answer|equal to|equals|given by|a total of|the|number|value|integer|fraction|"
    r"then|is|be)[,:]?\s+)+\}?\s*(?=\S)|(?:USD?|EUR|GBP|CHF|CAD|AUD|JPY|CNY|INR|Rs\.?|[约約])\s*(?=\d)",
    re.IGNORECASE,
)


def tidy(text: str) -> str:
    """An extracted answer without dollar signs, emphasis, quotes and a full stop around it."""
    text = _INVISIBLE.sub("", text).strip()
    shorter = None
    while shorter != text:
        shorter, text = text, text.strip().rstrip(".,;:?。").strip()
        for left, right in _MARKS:
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
                text = text[len(left) : -len(right)]
        if text.endswith("\\"):  # the rest of a spacing command, as in "5\ ."
            text = text[:-1]
    return _MEMBER.sub("", text).strip()


@functools.lru_cache(maxsize=1024)  # a truth is compared with every sample
def value_of(text: str) -> str:
    """An answer in plain LaTeX without units, currency, styles and words that do not change its value."""
    text = tidy(_ENDLESS.sub(r"\1\\overline{\2\3}", text))
    if _NUMBER.fullmatch(text):
        return text
    text = _NAMED.get(as_words(text), text)
    text = _OR_ABOUT.sub("", _ORDINAL.sub("", plain_latex(_LATEX_THOUSANDS.sub("", text))))
    for pattern in (_DENIAL_AFTER, _NUMBER_WITH_CLAUSE):
        text = match["value"] if (match := pattern.fullmatch(text)) is not None else text
    text = _FILLER.sub("", text, count=1) if _FILLER.match(text) else text
    text = _NUMERAL.sub(lambda match: f"{match[1]}{'-' * bool(match[2])}{_NUMERALS[match[3].lower()]}", text)
    text = _LARGE_AFTER.sub(lambda match: rf"{match[1]}\times 10^{{{_LARGE[match[3].lower()]}}}", text)
    for pattern in (_CLAUSE_AFTER, _NOTE_AFTER, _TEXT_AFTER, _WORDS_AFTER, _TEXT_BEFORE):
        if (match := pattern.fullmatch(text)) is not None:
            words = unwrapped(_EXPONENT.sub("", match["words"] or ""))
            if not (_CHANGES_THE_VALUE.search(words) or len(words) == 1 and _PRODUCT.search(match["value"])):
                text = match["value"]
    text = re.sub(rf"\\(?:{COMMANDS})(?![A-Za-z])", "", unwrapped(text))
    text = _BUILDER.sub(r"\1", text)
    while text.startswith("{") and closing_brace(text) == len(text) - 1:
        text = text[1:-1].strip()
    text = _REPEATING.sub(
        _as_fraction, _DOTTED.sub(lambda match: rf"\overline{{{''.join(filter(None, match.groups()))}}}", text)
    )
    if not re.search(r"[(\[]|\\\{", text):
        text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return re.sub(r"\s+", "" if _SPACED_THOUSANDS.fullmatch(text) else " ", tidy(text))


def closing_brace(text: str) -> int:
    """Position at which the bracket at the start of the text closes; -1 if it does not."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return place
    return -1


def canonical(text: str) -> str:
    """The spelling that is compared in votes. Equal spellings mean equal answers, but not the other way round."""
    if is_words(tidy(text)):
        return as_words(text)
    text = re.sub(r"\s*\^\\circ(?!\s*\d)\s*", "", value_of(text))
    text = re.sub(r"(?<!\d) | (?!\d)", "", text)  # 3 5 is not 35
    text = re.sub(r"(?<=[\^_])(\d(?!\d)|[A-Za-z](?![A-Za-z]))", r"{\1}", text)
    text = re.sub(r"^(-?)(\d+)/(\d+)$", r"\1\\frac{\2}{\3}", text)
    return _plain_decimal(text)


def _as_fraction(match: re.Match[str]) -> str:
    whole, before, after = match[1] or "0", match[2], match[3] or match[4] or match[5]
    over = int(whole + before + after) - int(whole + before)
    return rf"\frac{{{over}}}{{{10 ** len(before) * (10 ** len(after) - 1)}}}"


def _plain_decimal(text: str) -> str:
    """007 -> 7, +7 -> 7, .50 -> 0.5, 5. -> 5; other text is unchanged."""
    if not _NUMBER.fullmatch(text):
        return text
    sign = "-" if text.startswith("-") else ""
    whole, _, rest = text.lstrip("+-").partition(".")
    whole, rest = whole.lstrip("0") or "0", rest.rstrip("0")
    number = f"{whole}.{rest}" if rest else whole
    return number if number == "0" else sign + number


def unwrapped(text: str) -> str:
    """The text without \\text{} and similar commands."""
    return _WRAPPER.sub(r"\1", _WRAPPER.sub(r"\1", text)).strip()


def _spelled(text: str) -> str:
    """Words without \\text{}, with plain letters, hyphens and apostrophes."""
    return re.sub("[‐‑–—]", "-", unicodedata.normalize("NFKC", tidy(unwrapped(tidy(text))))).replace("’", "'")


def as_words(text: str) -> str:
    """An answer in words, in lower case and with single spaces."""
    text = " ".join(re.sub(r"\\?&", " and ", _spelled(text)).split())
    for pattern in (_CLAUSE_AFTER, _WORD_WITH_CLAUSE, _YES_OR_NO):
        text = clause["value"] if (clause := pattern.fullmatch(text)) is not None else text
    opening = r"^(?:(?:there|it|this|that|the [a-z]+(?: [a-z]+)?)(?: is| are|:) )?(?:(?:the|an?|is|player) )?"
    text = re.sub(rf"{opening}|(?<=\w) (?:number|triangle|wins?)$", "", _PLURAL.sub("", text.casefold()))
    return ", ".join(sorted(re.split(r",? and |, ", text))) if " and " in text else text


def is_words(text: str) -> bool:
    """Whether the answer is words, which algebra would read as a product of letters.

    Outside \\text{} a word has at least four letters, because xy and abc are products.
    """
    bare = _spelled(text)
    if not _WORDS.fullmatch(bare) or bare.casefold() in _NUMERALS or as_words(bare) in _NAMED:
        return False
    return bare != text.strip() or bool(_LONG_WORD.search(bare)) or bare.casefold() in _SHORT_WORDS


def number_of(text: str) -> Fraction | None:
    """The value of a plain number, a (mixed) fraction of integers, or a number times a power of ten; else None."""
    if len(text) > 100:
        return None
    if (fraction := _FRACTION.fullmatch(text)) is not None:
        sign, whole, over, under = fraction.groups()
        if not int(under) or (whole and over.startswith("-")):
            return None
        return int(sign + "1") * (int(whole or 0) + Fraction(int(over), int(under)))
    if (power := _E_NOTATION.fullmatch(text)) is not None:
        return Fraction(power[1]) * Fraction(10) ** int(power[2])
    if (power := _POWER_OF_TEN.fullmatch(text)) is not None:
        times = number_of(power[1]) if power[1] else Fraction(1)
        return None if times is None else times * Fraction(10) ** int(power[2] or power[3])
    return Fraction(text) if _NUMBER.fullmatch(text) else None


def without_percent(text: str) -> tuple[str, bool]:
    """(the text without a final per cent sign, whether there was one)."""
    shorter = _PERCENT.sub("", text)
    return shorter, shorter != text


def digits_and_base(text: str) -> tuple[str, str | None]:
    """("2516", "8") for "2516_8" and "2516 (base 8)"; (text, None) for other text."""
    match = _BASED.fullmatch(text)
    return (match[1], match[2] or match[3]) if match else (text, None)
