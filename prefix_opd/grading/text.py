"""Parts of a response: the text after the thinking, and the boxes and tags in it."""

from __future__ import annotations

import html
import re

from prefix_opd.method.prompt import THINK_END, THINK_START

FOREIGN_ANSWER = (
    r"(?<!falsche )(?<!mauvaise )(?<!неправильный )(?<!неверный )"
    r"(?!\w+\s(?:yang\s)?(?:incorrect[ao]|errad[ao]|sbagliat[ao]|salah)\b|\w+\s\w+\ssai\b)"
    "(?:antwort|lösung|solución|soluzione|solução|gabarito|ergebnis|resultado|résultat|risultato|válasz|r[ăa]spuns(?:ul)?|"
    "réponse|respuesta|resposta|risposta|antwoord|svar(?:et)?|odpowiedź|odpověď|vastaus|jawaban(?:nya)?|cevap|đáp án|"
    "ответ|відповідь|الجواب|الإجابة|उत्तर|जवाब|התשובה|پاسخ|απάντηση|yanıt)"
)
FOREIGN_IS = "ist|lautet|est|es|é|è"
EAST_ASIAN_ANSWER = (
    r"(?<!错误)(?<!错误的)[\[【(]?(?:答案|答え|正解|정답|답|正确的?选项|正しい選択肢|คำตอบ)[\]】)]?"
    r"(?:\s*应?该?(?:是|为|為|は|은|는|คือ))?(?:\s*[:：])?(?:选项)?"
)
"""Patterns of "answer" in other languages; the last includes the verb or colon."""

DOUBTS = (
    r"(?:\b(?<!no )(?<!without )(?<!without a )doubt(?:s|ed|ful)?\b|"
    r"\b(?:unsure|unclear|unlikely|nobody|no\sone|no\sway|never\s(?!doubt)\w+\sthat|mistake\sto|(?<!no )wonder)\b|"
    r"\b(?:wrong|incorrect|false|untrue)\s(?:that|to)\b|\blet(?:['’]s|\sus|\sme)\s(?:say|guess|pretend)\b|"
    r"\b(?:one|you|some|many|people|students)\s(?:\w+\s)?(?:think|believe|say|guess|expect|claim)\b|"
    r"\b(?:(?:everyone|others?|s?he|they|friend|teacher)\s(?:\w+\s)?(?:think|believe|say|guess|claim)(?:s|ed)?|"
    r"(?:is|was)\s(?:\w+\s)?(?:said|believed|thought|claimed))\s(?:that\s)?(?=(?:\w+\s){0,2}(?:(?:answer|(?-i:[A-J]))\b|$)))"
)
"""Pattern of words after which a clause claims nothing."""

_STRUCK_OUT = re.compile(r"~~(?=[\w*\\$])[^~\n]+~~|<(s|del|strike)>[^<>\[\]]{1,99}</\1>", re.IGNORECASE)
_END_TOKENS = re.compile(r"(?:\s*(?:<\|(?!end_of_box)\w+\|>|</s>|<eos>|<end_of_turn>))+$")
_BOX = re.compile(r"\\(?:boxed|fbox|framebox|answer)(?![a-zA-Z])\s*")
_BROKEN_BOX = re.compile(r"(?:\x08oxed|\\+[bB]oxed|(?<![A-Za-z\\])boxed)(?=\s*\{)")  # \b read as an escape, or lost
_BARE = re.compile(r"[^\s$\\]*")
# "\boxed{2}, \boxed{3}", "\boxed{2} $\boxed{3}$", "x = \boxed{2} or x = \boxed{3}"
_BETWEEN_PARTS = re.compile(
    r"(?:[\s$.,;:*~&(){}\[\]-]|\\(?:[,;: ()\[\]\\]|q?quad|text)|\b(?:and|or)\b|[a-z](?:_\{?\d\}?)?\s*=)*", re.IGNORECASE
)
_BETWEEN_CHARS = 40

_TAG_NAMES = r"(?:final[ _-]?(?:answer|result)|final|answer|ans|solution|result|choice|option|begin_of_box)"
_TAG_END = re.compile(rf"[<\[]\|?(?:/\s*{_TAG_NAMES}\s*|end_of_box)\|?[>\]]", re.IGNORECASE)
_TAG_START = re.compile(rf"[<\[]\|?\s*{_TAG_NAMES}(?:\s[^<>]*)?\|?[>\]]", re.IGNORECASE)
_STYLE_TAG = re.compile(
    r"</?(?:b|strong|em|i|u|p|span|code|number|value|li|font|mark|center|div|h\d|br)(?:\s[^<>]*)?/?>", re.IGNORECASE
)
# not the power in 2**10 and x**2
_EMPHASIS = re.compile(
    r"\*{3,}|\*\*(?!\d)|(?<!\d)(?<!\b[A-Za-z])\*\*|__(?!\{)|`|(?<![^\s(\[':>])[*_]+(?=\S)|(?<=[^\s\\^])[*_]+(?![\w*{^])"
)
_HEADING = re.compile(
    r"^[ \t]*(?:#+|>+(?=[ \t])|(?:[-+]|\d+[.)])(?=[ \t]+(?:\*\*|\$|\\\())|[*•][ \t])[ \t]*|^```\w*$", re.MULTILINE
)
_ORNAMENT = re.compile("[\u220e\u25a0-\u27bf\ufe0f\U0001f000-\U0001faff]")  # emoji, squares at the end of a proof
_JSON = re.compile(
    r"""["'](?:final[_ ]?)?answer["']\s*:\s*"""
    r"""(?:"((?:[^"\\]|\\.){1,500})"|'([^'\\]{1,500})'|\[([^\[\]]{1,100})\]|([^"'{}\[\],\s][^"'{}\[\],]{0,99}))\s*[,}]""",
    re.IGNORECASE,
)


def answer_part(response: str, require_think_end: bool) -> str | None:
    """The text after the last ``</think>``, up to the next ``<think>``; None if the thinking did not end.

    Args:
        response: the generated text.
        require_think_end: whether the prompt opens the thinking. If not, a response without ``<think>`` and
            ``</think>`` is an answer as a whole.
    """
    _, found, after = response.rpartition(THINK_END)
    if not found and (require_think_end or THINK_START in response):
        return None
    part = html.unescape(after.removeprefix(THINK_START).partition(THINK_START)[0].rstrip()).replace("\xa0", " ")
    return _END_TOKENS.sub("", _STRUCK_OUT.sub("", part))


def unmarked(text: str) -> str:
    """Text without markup: bold, italics, code, headings, quotations, HTML style tags and emoji."""
    return _EMPHASIS.sub("", _HEADING.sub("", _STYLE_TAG.sub("", _ORNAMENT.sub("", text))))


def tagged(text: str) -> tuple[str, str]:
    """(content of the last non-empty ``<answer>…</answer>``, the text after it); ("", text) without one.

    JSON with the key "answer" counts as a tag if the text has no tag.
    """
    for end in reversed(list(_TAG_END.finditer(text))):
        starts = list(_TAG_START.finditer(text, 0, end.start()))
        if starts and (content := _TAG_END.split(text[starts[-1].end() : end.start()])[0].strip(" \n\t:")):
            return content, text[end.end() :]
    *_, last = [None, *_JSON.finditer(text)]
    return (next(filter(None, last.groups())).strip(), text[last.end() :]) if last else ("", text)


def boxed(text: str) -> tuple[str, bool]:
    """(content of the answer's box, whether a box was left open).

    The last closed, non-empty box counts, because a response may correct itself or be cut off while it repeats its box.
    Boxes that are joined only by a comma, "and" or "or" are one answer: "\\boxed{2} or \\boxed{3}" gives "2, 3". So a
    list of guesses is not right because one of them is.
    """
    text = _BROKEN_BOX.sub(r"\\boxed", text)
    opened = False
    parts: list[str] = []
    follows = len(text)
    for start, end, content in _boxes_from_the_end(text):
        if content is None:
            opened = True
            continue
        if not content.strip():
            continue
        if parts and not (follows - end <= _BETWEEN_CHARS and _BETWEEN_PARTS.fullmatch(text, end, follows)):
            break
        parts.append(content.strip())
        follows = start
    return ", ".join(dict.fromkeys(reversed(parts))), opened


def _boxes_from_the_end(text: str) -> list[tuple[int, int, str | None]]:
    """(start, end, content) of each box, the last one first; content is None if the box is not closed."""
    # One pass with a stack. Matching each box separately takes quadratic time if many boxes are open.
    found: list[tuple[int, int, str | None]] = []
    stack: list[tuple[int, int] | None] = []
    place = 0
    while place < len(text):
        if text[place] == "\\":
            box = _BOX.match(text, place)
            if box is None:
                place += 2  # skip an escaped brace
            elif text.startswith("{", box.end()):
                stack.append((place, box.end() + 1))
                place = box.end() + 1
            else:
                bare = _BARE.match(text, box.end())  # "\boxed 5", as in some solutions of MATH
                found.append((place, bare.end(), bare.group()))
                place = max(bare.end(), box.end())
            continue
        if text[place] == "{":
            stack.append(None)
        elif text[place] == "}" and stack:
            box_start = stack.pop()
            if box_start is not None:
                found.append((box_start[0], place + 1, text[box_start[1] : place]))
        place += 1
    found += [(start, len(text), None) for start, _ in filter(None, stack)]
    # An inner box starts later than the one around it, so it comes first.
    return sorted(found, reverse=True, key=lambda box: box[0])
