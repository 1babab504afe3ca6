"""Multiple choice: the letter that a response gives."""

from __future__ import annotations

import re
from collections.abc import Sequence

from prefix_opd.grading.notation import COMMANDS, plain_latex
from prefix_opd.grading.text import DOUBTS, EAST_ASIAN_ANSWER, FOREIGN_ANSWER, FOREIGN_IS, boxed, tagged, unmarked

LETTERS = "ABCDEFGHIJ"

_WRAPPER = re.compile(rf"\\(?:{COMMANDS})\s*\{{")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3010: "(", 0x3011: ")", 0x274C: " – wrong"}
_SPACING = re.compile(r"\\(?:left|right)(?![A-Za-z])|\\[,;: ()\[\]]|[~_]|\\q?quad(?![A-Za-z])")
_MARKUP = re.compile(
    r"\\!|[*$`{}\"“”]|<<|>>|\[(?=\[)|(?<=\])\]|['‘](?=[A-Ja-j]['’](?!\w))|(?<=['‘][A-Ja-j])['’](?!\w)|"
    r"<(?=\(?[A-J]\)?>)|(?<=<[A-J])>|(?<=<\([A-J]\))>"
)
_SPACE = re.compile(r"\s+")

# A lower-case letter counts only in brackets and at the end of a statement, because "a" is a word.
_END = r"(?=\s*(?:[.,;:)!]|\n|$))"
_LETTER = (
    r"(?:[(\[] ?(?P<bracketed>[A-Ja-j]) ?[)\]]|"
    rf"(?:(?P<bare>[A-J])|(?P<small>[a-j])(?:{_END}|(?<=(?:ption|hoice) [a-j])))(?![A-Za-z\d'’#]|[-(]\d|\+\+|\.[a-z]))"
)
_BE = (
    r"(?:is (?:given|represented) by|is|are|was|(?:would|will|must|should|has to|can only)(?:\stherefore)? be|"
    r"(?:seems|appears|turns out|has|needs) to be|ends up being|remains|becomes)"
)
_ADVERB = (
    r"(?:\b(?:(?:almost\s|most\s)?(?!on|hard|rare|scarce|bare|near|possib|alleged|suppos|part|unlike)[a-z]+ly|still|now|"
    r"indeed|thus|therefore|just|in\sfact|of\scourse)\b,?\s)?"
)
_NAMED = (
    rf"{_ADVERB}(?:(?:the\s)?(?:(?:correct|right|best|answer|first|second|third|fourth|last)\s)?"
    r"(?:letter|option|choice|answer|number)(?:\snumber)?\s?[:,]?\s?)?"
)
_FITTING = r"(?:most (?:accurate|appropriate|likely|fitting|(?:plausi|suita|reasona|proba)ble)|(?:clos|near)est|better)"
_THING = r"(?:one|statement|response|description|explanation|match|fit|value|order|sequence|conclusion|diagnosis|step)"
_RIGHT = (
    r"(?:(?:only\s|most\s)?(?:correct|right|best|true|answer|appropriate)|"
    rf"{_FITTING}(?=\s(?:answer|option|choice|{_THING})\b|{_END})|plausible(?![^.\n]*\b(?:but|however|yet|not)\b))"
)
_ASKED = (
    r"(?:answer|ans\.?|choice|option|letter|select(?:ed|ion)|pick|guess|vote|decision|"
    rf"(?:right|correct|best|true)\s{_THING}|{_THING}\s(?:that|which)\s(?:is\s(?:true|correct)|holds|works|fits)|"
    rf"{_FITTING}(?:\s{_THING})?)"
)
_FAILS = (
    r"(?:\b(?:not|cannot|neither|wrong|incorrect|false|fails?|inconsistent|impossible|exclud\w+|eliminat\w+|reject\w*|"
    r"violat\w+)\b|n['’]t\b)"
)
_LAST = (
    r"(?:^|\n|[.!?]\s)(?:so|thus|hence|therefore|then|finally|overall|by elimination|(?:most )?likely|probably|clearly|"
    r"definitely|obviously|actually|wait|no(?=[,:])|in (?:conclusion|short|summary|(?:that|this) case))\s?[,:]?\s"
)
_FOREIGN_OPTION = "alternativa|вариант|opción|opção|opzione|lettre|letra|lettera"
_FOREIGN_NOT = "(?:no|non|não|nicht|niet|nie|không|bukan|не)"
_GIVEN = [
    re.compile(rf"(?i:(?:{'|'.join(befores)}){_NAMED}){_LETTER}(?i:{after})")
    for after, *befores in (
        (
            "",
            rf"\b{_ASKED}(?:,?\s[^.:\n]{{0,40}}?)??"
            rf"(?:\s{_BE}\b(?:,|\s?(?:…|\.\.\.))?\s?:?|\s?(?:[:：=→⇒➡–—-]|[-=]>))\s?",
            rf"\b(?:{FOREIGN_ANSWER}|{_FOREIGN_OPTION}|option(?=\s\w+\sest\b))(?:\s(?!{_FOREIGN_NOT}\b)\w+){{0,2}}?"
            rf"(?:\s?[:：—–]|\s-\s|\s(?:{FOREIGN_IS}|is|är|er|on|to|je|este|είναι|là|adalah|هي|هو|היא)\b)\s?"
            rf"(?:(?:donc|quindi|also|portanto|daher)\s)?(?:(?:la|a)\s)?(?:(?:réponse|option|{_FOREIGN_OPTION})\s)?",
            rf"{EAST_ASIAN_ANSWER}\s?|(?<![不错误])[选選][择擇]?\s?[:：]?\s?",
            rf"\b(?:answer|ans\.|settle on|vote (?:for|goes to)|{FOREIGN_ANSWER})\s|(?:^|\n)correct\s?:\s?(?=\()",
            r"(?:\bnot|n['’]t)\s\(?[A-J]\)?,?\s(?:but|it\sis|it['’]s)\s",
            r"\b(?:(?:pick|select)(?:ed|ing)?|choos(?:e|ing)|chose|(?:go|going|went|opt) (?:with|for)|chọn)\s",
        ),
        (
            rf"(?:{_END}|\sas\sthe\b)",
            rf"(?:\b(?:solution|result|conclusion|response|verdict|(?:correct|best)\s[a-z]+)|(?:^|\n)(?:correct|final))"
            rf"(?:\s{_BE}\s|\s?:\s?)",
            rf"\b(?:it|this|that|which)(?:\s{_BE}|['’]s)\s(?:only\s)?",
            r"\b(?:it|this|that|which|all|everything|evidence|analysis|reasoning|logic|others|result|value)\s"
            r"(?:matches|corresponds to|agrees with|is consistent with|is closest to|"
            r"(?:gives|yields|implies|indicates|suggests|supports|confirms)(?:\sus)?|"
            r"(?:leads?|points?)(?:\sus)?\s(?:to|towards?))\s(?:only\s)?|\bleaning\s(?:to|towards?)\s",
            r"[,;]\s(?:and\s)?(?:so|thus|hence|therefore|i\.e\.,?)\s",
            r"\d[^.,\n]{0,20}(?:\scorresponds\sto|,(?=\s(?:option|choice))|\s?[→⇒])\s",
            _LAST,
            r"\b(?:conclude|end up|finish|left)\swith\s(?:only\s|just\s)?|\barrive at\s",
            r"\b(?:we\s(?:get|obtain)|match(?:es|ing)|supports?|corresponds\sto)\s(?=(?:option|choice|answer)\s)",
            r"\bI(?:['’]d|\swould)?\s(?:think|believe|say|guess)\s|\bleav(?:es|ing)\s(?:us\swith\s)?(?:only\s|just\s)?",
        ),
        (rf"\s(?:the\s)?{_RIGHT}\b", r"\b(?:makes|making)\s"),
        (rf"\s(?:i|ha|work|fit|matche|satisfie|hold|meet|give|explain|describe)s\b(?![^.\n]*{_FAILS})", r"\bonly\s"),
        (r"\s(?:fits|matches|works|is it)\b", r"\b(?:option|choice)\s?"),
    )
]
# the letter is the subject: no word such as "vitamin" stands before it
_SUBJECT = [
    re.compile(rf"(?i:{_NAMED}){_LETTER}(?i:{after})")
    for after in (
        rf"(?:\s?\([^()\n]{{1,40}}\))?\s?(?!are\b){_BE}\s{_ADVERB}(?:the\s|my\s(?:final\s)?)?{_RIGHT}\b"
        r"(?!\s(?:only|if|before)\b|\sto\s(?:the\sprevious|an?other|a\sdifferent)\b|,?\sbut\s(?:it|not|irrelevant|here|that)\b)",
        rf"\s?(?:seems|appears|looks|sounds)\s(?:to be\s|like\s)?{_ADVERB}(?:the\s)?{_RIGHT}\b"
        r"(?!\s(?:at\sfirst|initially)|[^.\n]*\bbut\b)",
        rf"\s(?:is|was)\s(?:the\s)?(?:only\s(?:remaining\s)?(?:option|choice|answer|one|statement)|one\sthat)\b(?![^.\n]*{_FAILS})",
        r"\s(?:remains|is left|(?:fits|matches|works)\s(?:the\s)?best)\b|选?项?\s?是?正[确確]|が正",
        r"\s(?:it\s(?:is|must\sbe)\b|wins\b|is(?:\sthe\sone)?\.?$)",  # B is not correct. C is.
        rf"\s(?:best|better|correctly|accurately|most closely)\s[a-z]+s\b(?![^.\n]*{_FAILS})",
    )
]
_BEFORE_SUBJECT = re.compile(
    r"(?:^|[^\w\s]\s*|\n|\b(?i:so|thus|hence|therefore|then|that|and|or|but|because|since|as|only|also|both|now|here|yes|no|"
    r"option|choice|answer|letter|statement|response|possibility|candidate|number|conclusion|think|believe|say|feel|guess|"
    r"conclude|find|see|know|means|implies|suggests|shows|indicates|confirms|sure|certain|confident|clear|obvious|evident|"
    r"says|made|makes|making|overall|case|[a-z]+ly)\s|选项|選択肢|所以|因此|故)$|"
    # "In this light C is correct", but not "In group A is the best"
    r"(?:^|[.!?,\n]\s*)(?i:in|on|at|from|for|by|with|under|of|among|after|since|as|when|because|due|given|based|according|"
    r"using|looking|considering|comparing)\s(?:[^\s.!?]+\s)*"
    r"(?!(?i:vitamin|hepatitis|group|type|class|grade|category|phase|stage|"
    r"figure|table|part|section|point|vector|matrix|plan|model|sample|protein|gene|factor|element|drug|compound|species)\b)[^\s.!?]+\s$"
)
# the answer to "which is false?", if the text names no other
_FALSE = [re.compile(rf"\b(?i:(?:false|incorrect|wrong)\s(?:one|statement|option)\s(?:{_BE}\s|:\s?)){_LETTER}{_END}")]
_SEPARATED = re.compile(r"$|\s*[.):,–—;-]| (?:because|since)\b| ?\([^()]*\)$")
_NOUNS = rf"(?:option|choice|answer|letter|{FOREIGN_ANSWER}|{_FOREIGN_OPTION})"
_NOUN = rf"(?i:(?:the\s)?(?:correct\s|final\s)?{_NOUNS}\s?:?\s?)"
_LINE = re.compile(rf"(?:[-=#>→⇒⟹∴]+\s)?{_NOUN}?{_LETTER}(?P<rest>.*)", re.DOTALL)
# "All of the above (D)", at the end
_CLOSING = re.compile(r"(?:(?P<words>[^()\[\]?]*\w),? )?[(\[](?:(?i:option|choice)\s)?(?P<letter>[A-J])[)\]][.!]?")
_NO_CLOSING = re.compile(
    rf"(?i:{_FAILS}|\b(?:rul\w+\sout|except|than|unlike|versus|worst|if|whether)\b|\b(?:figure|table|panel|part|group|type|"
    r"section|case|step|equation|both|of|in|from|by|to|with|see|like)$)"
)
# C and D of the last two lines are the end of a list of the options
_LISTED = re.compile(r"(?:(?:^|\n)(?:[-*•]\s)?|\b(?i:option|choice|statement)\s)\(?([A-J])\)?\s?[.:)]\s")
_ALONE = re.compile(rf"{_LETTER}[.)]?\n")
_REJECTED = re.compile(r"[\w)]\s?(?:[:–—(-]|\bis)[\s–]*(?:incorrect|wrong|false)\W*$|\?\s*$")
_PAIR = re.compile(r"\s?[;–—-]\s?[A-J](?![A-Za-z])")
_ANOTHER = re.compile(
    r"\s?(?:,|/|&|或|和|还是|or\b|and\b)\s?(?:or\s|and\s)?(?:\([A-Ja-j]\)|[A-J](?![A-Za-z0-9'’]))"
    r"(?!\s(?:is|are)\s(?:\w+\s)?(?:wrong|incorrect|false|not)\b)"
)
# "if C is correct", "I do not think C is correct", "B or C is correct"
_DOUBT = re.compile(
    rf"(?i:{DOUBTS}|\b(?:if|unless|whether|suppos\w+|assum\w+|imagin\w+|pretend|neither|refus\w+|hesita\w+|tempt\w+|wanted|"
    r"regret|nothing|no\s(?:reason|evidence)|easy\sto|never(?!\sdoubt)|mistake|avoid|whoever|those\swho|in\scase)\b|"
    r"(?:\b(?:can)?not|n['’]t)\b(?!\s(?:hard|difficult|surprising|only)\b))"
    r"(?:(?!\b(?:so|but|and|thus|hence|therefore|then|because|since)\b)[^.,;:!?\n])*$|"
    r"[A-J]\)?,?\s(?:or|nor|and)\s$|[A-J],\s[A-J],\s$|(?:也许|可能|或许|同学)[^。，,]{0,3}$|"
    r"(?i:\b(?:wrong|incorrect|false|worst|initial|previous|rejected|no|almost|nearly|hardly|wrongly|mistakenly|may|might|before)\s$|\b(?:any\w*|every\w*|all)\sbut\s$|"
    r"\b(?:students|people|everyone|everybody|others?|few|fool|he|she|they|friend|teacher)\s(?:\w+\s){0,2}$|"
    r"\b(?:(?:at|I)\sfirst|initially|previously|earlier|originally)\s(?:\w+\s){0,3}$)"
)
# "The answer C is wrong", "It is said that C is correct, but that is false"
_DENIED = re.compile(
    r"(?:\s(?:is|seems|appears)\s(?:the\s)?(?:correct|right|true|answer|best)(?:\sanswer)?)?"
    r"(?:,?\sbut\s(?:that|this|it)|,\swhich(?!\sis\snot\s(?!correct|right|true))|,[^,.\n]{1,25},)?"
    r"\s(?:is|was|are|(?:would|must|should|can)\sbe)(?:n['’]t|(?:\s\w+)?\s(?:false|wrong|incorrect|not|untrue|a\smistake|"
    r"ruled\sout|eliminated|excluded|too\s\w+))\b|[:\s–—-]+(?:wrong|incorrect)\W*$|"
    r"\s(?:fails|ignores|overlooks|forg[eo]ts?|(?:does\snot|doesn['’]t)\s(?:work|fit|apply|match|hold)|неверен|sai)\b|"
    r"\s(?:ist|est|es|é|è)\s(?:nicht|pas|no|não|non|falsch|fausse|incorrect\w*|errad\w|sbagliat\w)|"
    r",?\sbut\s(?:\w+\s){0,4}(?:fails|changed|wrong|incorrect|false|mistaken)\b|"
    r"[.;]\s(?:but\s|however,\s)?(?:this|that)\s(?:is|was)\s(?:wrong|incorrect|false|untrue)\b|"
    r"\scan(?:not|['’]t)\sbe\b|\s(?:only\sif|if|unless)\b(?!\s(?:I|we|you|my)\b)|"
    r"가 아|이 아|では(?:あり|な)|じゃ|是?(?:错|錯|不)|\s(?:değil|नहीं)",
    re.IGNORECASE,
)
# "Is the answer C?"; a question's answer "yes" is a statement
_ASKS = re.compile(
    r"(?:^|[.!?:,\n]\s*|\b(?:so|but|and|wait)\s)(?i:is|are|was|could|can|would|will|should|does|do|did|might|may|what|why|how|"
    r"which|isn['’]t)\b[^.!?\n]*$"
)
_QUESTION_ENDS = re.compile(r"[^.!?\n]*\?(?!\s*(?i:yes|yeah|indeed|correct|right)\b)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|\n")
_SENTENCE_GOES_ON = re.compile(r"\s(?!(?:because|since|as|for|based|due|and|or|which|is|must|would|will|seems)\b)[a-z]")
_WORDY = "AI"  # letters that are also words


def letter_of(text: str) -> str | None:
    """The letter of a short text such as the content of a box: "C", "(C)", "Option C", "C. 42 m"; else None."""
    plain = _plain(text).strip(" \n.!")
    match = _LINE.fullmatch(plain)
    if match is None:
        return _given(plain)
    if _ANOTHER.match(rest := match["rest"]) or _PAIR.match(rest) or _DENIED.match(rest) or _REJECTED.search(rest):
        return None
    separated = _SEPARATED.match(rest) or (match["bracketed"] and rest[0] == " ")
    return _letter(match) if separated else _given(plain)


def find_letter(text: str, n_options: int = len(LETTERS)) -> str | None:
    """The letter that a response gives, or None.

    The first of these that exists: the last box or ``<answer>``; the last statement such as "the answer is (C)",
    "Answer: C", "I would pick C", "option C is correct"; a last line with a letter, alone or before its option's text.
    Questions, denials, two letters together, a letter beyond the options and a word ("A good way…") do not count.

    Args:
        text: the text after the thinking.
        n_options: number of options of the question, 2 to 10.
    """
    inside, after = tagged(text)
    box = boxed(after)[0] or boxed(inside)[0] or inside
    plain = _plain(text).strip()
    last = letter_of(plain_latex(unmarked(box))) if box else None
    lines = plain.split("\n")
    listed = "".join(_LISTED.findall("\n".join(lines[-2:]))[-2:])
    line = "" if len(listed) == 2 and listed in LETTERS else lines[-1]
    letter = last or _given(plain) or letter_of(line) or _given(plain, _FALSE)
    closing = _CLOSING.fullmatch(_SENTENCE_END.split(plain)[-1])
    if letter is None and closing is not None and not _NO_CLOSING.search(closing["words"] or ""):
        letter = closing["letter"]
    if letter is None and (alone := _ALONE.match(plain)) is not None:
        letter = _letter(alone)
    return letter if letter and letter in LETTERS[:n_options] else None


def _plain(text: str) -> str:
    """The text without markup, LaTeX wrappers and repeated spaces."""
    bare = _MARKUP.sub("", _SPACING.sub(" ", _WRAPPER.sub("", unmarked(text.translate(_FULL_WIDTH)))))
    return _SPACE.sub(lambda space: "\n" if "\n" in space.group() else " ", bare)


def _given(plain: str, patterns: Sequence[re.Pattern[str]] = (*_GIVEN, *_SUBJECT)) -> str | None:
    """The letter of the last statement with a letter."""
    matches = [match for pattern in patterns for match in pattern.finditer(plain)]
    for match in sorted(matches, key=_place, reverse=True):
        before, rest = plain[max(0, match.start() - 80) : match.start()], plain[_place(match) : _place(match) + 40]
        asks = (
            match.re in _SUBJECT
            or rest.lstrip().startswith(("?", "吗", "嗎"))
            or _ASKS.search(plain[: _place(match)][-120:])
        )
        if _DOUBT.search(before) or _DENIED.match(rest) or (asks and _QUESTION_ENDS.match(rest)):
            continue
        if match.re in _SUBJECT and match["bracketed"] is None and not _BEFORE_SUBJECT.search(before):
            continue
        if match["bare"] is not None and match["bare"] in _WORDY and _SENTENCE_GOES_ON.match(rest):
            continue
        return None if _ANOTHER.match(rest) else _letter(match)
    return None


def _place(match: re.Match[str]) -> int:
    """End position of the letter."""
    return match.end("bracketed") + 1 if match["bracketed"] else max(match.end("bare"), match.end("small"))


def _letter(match: re.Match[str]) -> str:
    return (match["bracketed"] or match["bare"] or match["small"]).upper()
