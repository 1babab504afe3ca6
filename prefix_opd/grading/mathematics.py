"""Mathematics: the answer that a response gives, and its comparison with the truth."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from prefix_opd.grading.choice import LETTERS, letter_of
from prefix_opd.grading.expression import (
    as_words,
    canonical,
    digits_and_base,
    is_words,
    number_of,
    tidy,
    unwrapped,
    value_of,
    without_percent,
)
from prefix_opd.grading.text import DOUBTS, EAST_ASIAN_ANSWER, FOREIGN_ANSWER, FOREIGN_IS, boxed, tagged, unmarked
from prefix_opd.grading.units import different_units

_TAIL_CHARS = 1_500
_VERB = (
    rf"(?:is|are|was|equals|{FOREIGN_IS}|(?:would|will|must|should|can only|has to) be|"
    r"(?:seems|appears|turns out|comes out|works out) to be)"
)
_ANNOUNCED = re.compile(
    rf"\b(?:(?<!wrong )(?<!incorrect )answer|final (?:result|value|solution|output)|ans\b\.?|{FOREIGN_ANSWER})(?!\w)\s*"
    r"(?:\([^()\n]{0,40}\)\s*|,[^.,\n]{0,30},\s*)?"
    rf"(?:(?:[^.,:;=()\n$\\\d]{{0,40}}?\b)?(?:{_VERB}|comes?(?: out)? to|becomes)\b\s*:?|[:：=→—–]|[-=]+>|-(?=\s))"
    r"(?:\s+not\s[^.\n]{1,40}?\sbut\b)?(?!\s*(?:not|wrong|incorrect|right|correct)\b)|"
    rf"{EAST_ASIAN_ANSWER}|"
    r"[\[(](?:final )?answer[\])]\s*[:：]?|\bans\.\s|^(?-i:A):(?=[^\n:]*\Z)|\bthe answer(?= [-−$\\(]*\d\S*\s*$)|"
    r"^\W*(?:final|result|solution|sum|total(?: \w+)?)\s*[:：](?=\s*[^\w\s]*\d\S{0,40}\s*$)|"
    r"^\W*(?:the )?(?:final |correct )?answer\W*\n",
    re.IGNORECASE | re.MULTILINE,
)
# "#### 18", but not the heading "#### 1. Addition" or "#### **Step 1**"
_HASHES = re.compile(
    r"^####(?![\s*]*(?:\d+[.)][ \t]+\S|\([a-z]\)))"
    r"(?=[\s*]*(?:(?=[-+\d$\\(.])(?:\\[A-Za-z]++|(?![A-Za-z]{3}|\\[A-Za-z]).)*+$|\w+\W*\Z))",
    re.MULTILINE,
)
_MATH = re.compile(
    r"\$\$(?P<a>.{1,500}?)\$\$|\\\[(?P<b>.{1,500}?)\\\]|\\\((?P<c>.{1,500}?)\\\)|(?<![\\\d])\$(?P<d>(?:\\\$|[^$\n]){1,500})\$|"
    r"\\begin\{(?:equation|align|gather|displaymath)\*?\}(?P<e>.{1,500}?)\\end\{(?:equation|align|gather|displaymath)",
    re.DOTALL,
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathbf|mbox)\s*\{([^{}]*(?:answer|result)[^{}]*)\}", re.IGNORECASE)
_JOINED = re.compile(r"[ \t]*(?:,|;|,?[ \t]*(?:and|or)\b)[ \t]*", re.IGNORECASE)
_GOES_ON = re.compile(r"[ \t]*(?:,?[ \t]*(?:and|or)\b|[,;+=*/-])[ \t]*(?=[\d\\$(+-])", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<!\\)(?<!\bapprox)(?<!\bi\.e)[.!?](?=[\s*)\"'”]|$)(?!\s*=)|。|です|입니다")
_BARE = re.compile(
    r"(?:(?:^|(?:[,;]|\band|\bor)\s*)[A-Za-z]\s*=|\b(?:and|or)\b|\\(?:sqrt|frac|pi|pm|[lg]e|neq|infty|circ)(?![a-z])|"
    r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])|[-+−\d.,\s/^*()\[\]{}\\%°π√±$€£<>]){1,80}"
)
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}|\bso\b|[.!?]\s")
_BOLD = re.compile(r"\*\*([^*\n]{1,100})\*\*")
# "The value of $x$ is 42.", "Hence there are exactly 42 ways."
_STATED = re.compile(
    rf"(?:(?:\$|\\\))[ ]=|[\w$)][ ]{_VERB})[ ](?:exactly |only |just )?(?:\*\*)?"
    r"([-+−]?[$€£]?\d[\d.,/]*[π°]?(?:!(?=\.))?%?(?: \(mod \d+\))?(?: [A-Za-z]+[²³]?){0,4})(?:\*\*)?[.!]?\s*$"
)
_UNSURE = re.compile(r"\b(?:whether|if|not|wrong|incorrect)\b[^.!?\n]*[.!?]?\s*$", re.IGNORECASE)
# "So she earns $18 every day.": the only number of a sentence that concludes
_CONCLUDED = re.compile(
    r"(?:^|[.!?:]\s+)(?:So|Thus|Hence|Therefore|Consequently|Altogether|In total|In conclusion|Overall)\b"
    r"(?:(?!\b(?:not|cannot|if|whether|or|more|less|fewer|least|most|than|between|half|twice|times|double|step|case|none|neither)\b|n['’]t|"
    r"\b(?i:by|with|in|of|from|at|base|theorem|lemma|equation|above|below|under|over|exceeds?)\s+[-−$]*\d)"
    r"[^\d.!?\n(<>≤≥≠≈=])*?(?<![\w^√/*+×·])([-−]?(?:\d+\s+(?=\d+/\d))?\d+(?:[.,/]\d+)*%?)(?![\w^√])(?!\s*[×·*/+=])"
    r"(?:(?!\b(?:not|if|or|than|times|thousand|million|billion|fails?|wrong|incorrect|false|divides|too)\b)[^\d!?\n=])*?[.!]\s*$"
)
_SENTENCE = re.compile(r"(?!(?:Yes|No)\b)[A-Z][^\d\\]*\s[a-z]{2,}\s[^\d\\]*\d[^\\]*")
# "the number of ways is" before a value or a name
_SUBJECT = re.compile(
    r"(?:the|there|it|its|this|that|so|hence|thus|therefore)\b"
    rf"(?:[^.:;!?\n$\\\d]|\$[^$\n]{{1,40}}\$|\\\((?:(?!\\\)).){{1,40}}\\\)){{0,80}}?"
    rf"\b(?:{_VERB}|ha(?:s|ve)(?=\sno\s))\s+(?:exactly\s|only\s|just\s)?"
    r"(?=[-+−±$\\(\[{\d√½π]|[a-z]\s*=|(?:(?:an?|the|no(?:\sreal)?|infinitely)\s)?[A-Za-z][\w’'-]{2,}[.!]?\s*$)",
    re.MULTILINE,
)
_CLAUSE = r"(?:(?!\b(?:but|so|thus|hence|therefore)\b)[^.,;:!?\n]|\.(?=\d))"
# sentences that claim nothing: questions, doubts, assumptions
_NO_CLAIM = re.compile(
    r"(?:^|(?<=[.!?]\s))[*_]*(?:"
    r"(?:[^.!?\n]|\.(?=\d))*[?？](?=[\s*_)\"'”]|$)|"
    rf"(?:{_CLAUSE}|,)*\b(?:whether|if|suppos\w+|assum\w+|imagin\w+)\s(?:that\s)?(?:the|my|your)\s(?:\w+\s)?answer\b"
    rf"(?:{_CLAUSE}|[,:])*(?:[.!](?=\s|$)|$)|"
    rf"(?:{_CLAUSE}*(?:{DOUBTS}|(?:\b(?:can)?not|n['’]t)\s(?:(?:\w+\s)?(?:sure|certain|clear|think|believe)\b|know\s(?:whether|if)\b|"
    r"(?:be|say|claim|conclude|follow|mean|possible|true|right|correct|(?:\w+\s)?case)\sthat\b))|"
    rf"(?:let(?:['’]s|\sus|\sme)\s)?(?:suppose|assume|imagine|pretend)\b|let\s[^.!?,\n]*=){_CLAUSE}*(?:[.!](?=[\s*_]|$)|$))",
    re.IGNORECASE | re.MULTILINE,
)
_LONE_WORD = re.compile(r"((?i:yes|no)(?=[,;:.!—])|[^\W\d_]{2,}(?=[.!]?$)).*")
_BOLD_WORD = re.compile(r"\*\*([^\W\d_]{2,})\.?\*\*[.!]?$")
_OPENING = re.compile(r"\W*(yes|no)\b\W*(?:[,.;:!—–]\s|\n)(?!\s*\d)", re.IGNORECASE)
_REFUTED = r"(?:(?:is|are)\s(?:wrong|incorrect|false|not|too|excluded)|fails|cannot|does|of\s\d+)\b"
_SCALED = r"\d*[A-Za-z](?:\^\{?\d\}?|[²³]|\s*[-+/]\s*\d+|(?<=\d[A-Za-z])(?:\s*[-+]\s*\d+)?)\s*="  # x^2 = 4 is no answer
_LAST_EQUATION = re.compile(rf"^(?!(?:\W|[Ss]o\b)*{_SCALED}).*=([^=]{{1,100}})$")
_LETTERED = re.compile(r"\(([A-J])\)(?:\s*(\S.*))?")
_SPACE = re.compile(r"\\[ ,;:!]|~|\\q?quad(?![A-Za-z])")
_HALF_DAY = re.compile(r"\d[\s~\\]*(?:text\{\s*)?([ap])\.?m\b", re.IGNORECASE)

_RESIDUE = re.compile(r"(?:\\equiv\b\s*)?(?P<value>\d+)\s*[,(]?\s*\\?[pb]?mod(?:ulo)?[\s({]*(?P<modulus>\d+)[\s)}]*")

UNCLOSED = "the box was left open"
NONE_FOUND = "no answer was found"


def find_answer(text: str) -> tuple[str, str]:
    """(the answer as spelt, or the reason why there is none).

    The first of these that exists: the last closed box or ``<answer>``; the text after the last "answer is", "answer:",
    "final answer" or "####"; in the last paragraph the number at the end of a statement ("there are 42 ways."), the
    last formula, or a bare or bold number. Other numbers in the text do not count, and neither do questions and doubts.
    """
    inside, after = tagged(text)
    box, opened = boxed(after)
    if not box and inside:
        lines = [line for line in inside.splitlines() if line.strip()]
        formula = len(lines) == 1 or all("=" in line for line in lines)
        box = unmarked(", ".join(lines)) if formula and not _PROSE.search(inside) else ""
        box = box or find_answer(inside)[0] or _first_statement(inside)
    if box:
        return box, ""
    if opened:
        return "", UNCLOSED
    tail = _NO_CLAIM.sub("", text[-_TAIL_CHARS:])
    plain = _TEXT.sub(r"\1", unmarked(_HASHES.sub("answer:", tail)))
    announced = list(_ANNOUNCED.finditer(plain))
    if announced and (answer := _first_statement(plain[announced[-1].end() :])):
        around = re.search(r"[(\[<{](?=[\w ]{0,12}$)", plain[: announced[-1].start()])  # "(Answer: 42)"
        return answer.rpartition(")]>}"["([<{".index(around[0])] if around else "\0")[0] or answer, ""
    last = tail.strip(" \n`").rpartition("\n\n")[2]
    if (stated := _STATED.search(last)) is not None and not _UNSURE.search(last):
        return tidy(stated[1]), ""
    if (formulas := _formulas(last)) and (answer := tidy(formulas[-1])):
        return answer, ""
    line = last.rpartition("\n")[2]
    equations = [] if _OPENING.match(line) else _LAST_EQUATION.findall(unmarked(line))
    for candidate in (line, *_formulas(last, _BOLD)[-1:], *equations):
        bare = value_of(unmarked(candidate))
        if (any(c.isdigit() for c in bare) or "π" in candidate) and _BARE.fullmatch(bare) and not _denied(line, bare):
            return bare, ""
    if (word := _BOLD_WORD.search(line)) is not None and not _UNSURE.search(line):
        return word[1], ""
    bold, line = _BOLD.fullmatch(line), unmarked(line)
    if bold and (number := _only_number(line)) != line:
        return number, ""
    if (only := _CONCLUDED.search(line)) is not None:
        return only[1], ""
    sentence = re.split(r"[.!?:]\s+", line.strip())[-1]
    if (word := _LONE_WORD.fullmatch(sentence) or _OPENING.match(text)) is not None and not _denied(line, word[1]):
        return word[1], ""
    if _SUBJECT.match(sentence[:1].lower() + sentence[1:]) and not _UNSURE.search(sentence):
        return _first_statement(sentence), ""
    return "", NONE_FOUND


def _denied(line: str, value: str) -> bool:
    """Whether a line says "not 42" or "a wrong answer is 42"."""
    before = rf"(?i:\b(?:not|(?:wrong|incorrect)\s\w+(?:\sis)?)|n['’]t|cannot)(?:\sbe)?\W*{re.escape(value)}"
    return bool(re.search(rf"{before}|{re.escape(value)}\s{_REFUTED}", unmarked(line)))


def _formulas(text: str, pattern: re.Pattern[str] = _MATH) -> list[str]:
    """The formulas of a text. Formulas in one line that are joined by a comma, "and" or "or" are one answer."""
    formulas: list[str] = []
    end = None
    for match in pattern.finditer(text):
        formula = next(filter(None, match.groups()))
        if end is not None and _JOINED.fullmatch(text, end, match.start()):
            formulas[-1] += f", {formula}"
        else:
            formulas.append(formula)
        end = match.end()
    return formulas


def _first_statement(rest: str) -> str:
    """The formula or the words after an announcement."""
    opening = unmarked(rest).lstrip(" ,*_:\n")
    if (subject := _SUBJECT.match(opening[:1].lower() + opening[1:])) is not None:
        opening = opening[subject.end() :]
    line = opening.partition("\n")[0]
    # A display formula may have several lines; an inline formula is in this line.
    formula = _MATH.match(opening) or _MATH.search(line)
    if formula is not None:
        before = opening[: formula.start()]
        if not any(c.isdigit() for c in before) and not _SENTENCE_END.search(before):
            if not _GOES_ON.match(opening, formula.end()):
                return tidy(next(filter(None, formula.groups())))
            line = before + re.sub(r"\$|\\[()\[\]]", "", opening[formula.start() :].partition("\n")[0])
    end = _SENTENCE_END.search(line)
    return _only_number(tidy(line[: end.start()] if end else line))


def _only_number(statement: str) -> str:
    """The only number of a sentence such as "It takes 160 minutes", else the statement."""
    only = _SENTENCE.fullmatch(statement) and _CONCLUDED.search(
        f"So {statement[0].lower()}{statement[1:].rstrip('.!')}."
    )
    return only[1] if only else statement


def equal(answer: str, truth: str, symbolically: Callable[[str, str], bool]) -> bool:
    """Whether an answer equals the truth.

    Strings, words and fractions are compared here, other answers by ``symbolically``. These differences do not count: a
    per cent sign (50 and 0.5 equal 50%), a unit, a degree or currency sign that one side has, a base that the question
    gives, and a variable's name.

    Args:
        answer: the answer as spelt in the response.
        truth: the truth as spelt in the data set.
        symbolically: (answer, truth) -> whether they are equal by algebra. It may raise.
    """
    ours, theirs = (" ".join(unwrapped(tidy(one)).split()).casefold() for one in (answer, truth))
    same = tidy(answer) == tidy(truth) and "..." not in answer + truth  # 0.99... is not 0.99
    if same or (ours == theirs and re.fullmatch(r"[\w ,.-]*[a-z]{3}[\w ,.-]*", ours)):  # June 20
        return True
    our_letter, letter = (_LETTERED.fullmatch(_SPACE.sub(" ", unwrapped(tidy(one)))) for one in (answer, truth))
    if letter is not None:
        if (given := letter_of(answer)) is not None or not letter[2]:
            return given == letter[1]
        truth = letter[2]
    elif our_letter is not None and our_letter[2]:
        answer = our_letter[1 if truth in LETTERS else 2]
    halves = {half[1].lower() for one in (answer, truth) if (half := _HALF_DAY.search(one))}
    if len(halves) == 2 or different_units(answer, truth):  # 10:00 a.m. and 10:00 p.m.; 5 cm and 5 m
        return False
    if is_words(tidy(truth)) or (is_words(tidy(answer)) and as_words(answer) == as_words(truth)):
        return as_words(answer) == as_words(truth)
    (answer, answer_percent), (truth, truth_percent) = map(without_percent, (value_of(answer), value_of(truth)))
    residue, true_residue = _RESIDUE.fullmatch(answer), _RESIDUE.fullmatch(truth)
    if residue and true_residue:
        return residue.groups() == true_residue.groups()
    if residue and int(residue["value"]) < int(residue["modulus"]):
        answer = residue["value"]
    if _equal_values(answer, truth, symbolically):
        return True
    if answer_percent == truth_percent:
        return False
    percent, other = (answer, truth) if answer_percent else (truth, answer)
    value, share = number_of(canonical(percent)), number_of(canonical(other))
    return value is not None and share is not None and value / Fraction(100) == share


def _equal_values(answer: str, truth: str, symbolically: Callable[[str, str], bool]) -> bool:
    ours, theirs = canonical(answer), canonical(truth)
    if ours == theirs:
        return bool(ours)
    if re.fullmatch(r"\d{1,2}:\d{2}", theirs):  # a time of day, which algebra reads as a ratio
        return False
    number, true_number = number_of(ours), number_of(theirs)
    if number is not None and true_number is not None:
        return number == true_number or ("." in ours + theirs and symbolically(ours, theirs))
    (our_digits, our_base), (their_digits, their_base) = digits_and_base(ours), digits_and_base(theirs)
    if our_base or their_base:
        return our_digits == their_digits and (our_base is None or their_base in (None, our_base))
    return symbolically(answer, truth)
