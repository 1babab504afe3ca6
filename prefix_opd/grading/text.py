"""Finding the answer in a response: what follows the thinking, and the boxes and tags in it."""

from __future__ import annotations

import re

THINK_START, THINK_END = "<think>", "</think>"

_END_TOKENS = ("<|im_end|>", "<|endoftext|>")
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
_BARE = re.compile(r"[^\s$\\]*")
# "\boxed{2}, \boxed{3}", "\boxed{2} $\boxed{3}$", "x = \boxed{2} or x = \boxed{3}"
_BETWEEN_PARTS = re.compile(
    r"(?:[\s$.,;:*~&(){}\[\]-]|\\(?:[,;: ()\[\]\\]|q?quad|text)|\b(?:and|or)\b|[a-z](?:_\{?\d\}?)?\s*=)*", re.IGNORECASE
)
_BETWEEN_CHARS = 40

_TAG_NAMES = r"(?:final_?answer|answer|ans|solution|result)"
_TAG_END = re.compile(rf"</({_TAG_NAMES})\s*>", re.IGNORECASE)
_TAG_START = re.compile(rf"<{_TAG_NAMES}\s*>", re.IGNORECASE)
_STYLE_TAG = re.compile(
    r"</?(?:b|strong|em|i|u|p|span|code|font|mark|center|div|h\d|br)(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_EMPHASIS = re.compile(r"\*\*|__(?!\{)|`|(?<![^\s(\[':>])[*_]+(?=\S)|(?<=[^\s\\^])[*_]+(?![\w*{^])")
_HEADING = re.compile(r"^[ \t]*(?:#+|>+)[ \t]*", re.MULTILINE)


def answer_part(response: str, require_think_end: bool) -> str | None:
    """What the response says after its thinking; None where the thinking did not end.

    The last ``</think>`` counts. Thinking that is opened again after it is no answer and is cut off.

    Args:
        response: what the model generated.
        require_think_end: whether the prompt opened the thinking. Otherwise a response without ``<think>`` and
            ``</think>`` is an answer as a whole.
    """
    _, found, after = response.rpartition(THINK_END)
    if not found and (require_think_end or THINK_START in response):
        return None
    part = after.removeprefix(THINK_START).partition(THINK_START)[0].rstrip()
    while part.endswith(_END_TOKENS):
        part = part.rpartition("<|")[0].rstrip()
    return part


def unmarked(text: str) -> str:
    """Prose without its marks: bold, italics, code, headings, quotations and HTML's tags of style."""
    return _EMPHASIS.sub("", _HEADING.sub("", _STYLE_TAG.sub("", text)))


def tagged(text: str) -> tuple[str, str]:
    """(what the last ``<answer>…</answer>`` that is not empty holds, the text after it); ("", text) for none."""
    for end in reversed(list(_TAG_END.finditer(text))):
        starts = list(_TAG_START.finditer(text, 0, end.start()))
        if starts and (content := text[starts[-1].end() : end.start()].strip()):
            return content, text[end.end() :]
    return "", text


def boxed(text: str) -> tuple[str, bool]:
    """(the contents of the answer's box, whether a box was left open).

    The last closed box with something in it counts: a response may correct itself, and one that is cut off while
    repeating its box has still given it. Boxes that are joined by a comma, "and" or "or" alone are one answer in
    parts, e.g. "\\boxed{2} or \\boxed{3}" gives "2, 3", so that naming several values is no way to be right with one.
    """
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
    """(start, end, content) of each box, the last one first; content is None where the box never closes."""
    # One walk over the text with a stack: matching each box on its own would be quadratic for a loop of open boxes.
    found: list[tuple[int, int, str | None]] = []
    stack: list[tuple[int, int] | None] = []
    place = 0
    while place < len(text):
        if text[place] == "\\":
            box = _BOX.match(text, place)
            if box is None:
                place += 2  # an escaped brace does not count
            elif text.startswith("{", box.end()):
                stack.append((place, box.end() + 1))
                place = box.end() + 1
            else:
                bare = _BARE.match(text, box.end())  # "\boxed 5", as some solutions of MATH have it
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
