"""The parts of an answer in plain LaTeX: tuples, sets, lists, ratios, equations and conditions, without algebra."""

from __future__ import annotations

import re

from prefix_opd.grading.expression import closing_brace

_JOINED = re.compile(r"[\s,;]*(?<!\\)\b(and|or)\b\s*")
_SINGLE = re.compile(r"^\\\{\s*((?=\S)[^{},;]*[^{},;\s]|\([^{}();]*\))\s*\\\}$")
_VALUE_OF = re.compile(r"(?<![A-Za-z\\])([A-Za-z])(?=\s*=)")
_NAME = re.compile(r"\s*\\?[A-Za-z]?(?:\([a-z]\))?\s*")
_RELATION = re.compile(r"[<>]|\\(?:[lg]e|neq)\b")
_VARIABLE = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_COLUMN = re.compile(r"\\begin\{pmatrix\}((?:(?!\\begin)[^&])*)\\end\{pmatrix\}")
_NAMED_TUPLE = re.compile(r"\(([^()=]*)\)\s*=\s*\(([^()=]*)\)")
_FUNCTION = re.compile(r"^[A-Za-z]\s*\(\s*[a-z]\s*\)\s*=")
_CONSTANT = re.compile(r"\+\s*(?:[ckK]|const(?:ant)?\.?)$")


def listed(text: str) -> str:
    """Commas in place of ";" and "and", semicolons in place of "or"; the union sign between intervals."""
    text = re.sub(r"\\l(and|or)\b", r" \1 ", text) if _RELATION.search(text) else text
    text = re.sub(r"(?<=[)\]])\s*\bor\b\s*(?=[(\[])", r"\\cup ", text) if "\\infty" in text else text
    return _JOINED.sub(lambda found: "; " if found[1] == "or" else ", ", text.replace(";", ","))


def conditions(text: str) -> list[list[str]]:
    """The alternatives of a condition on one variable: [["x > 0", "x < 9"], ["x = -2"]]."""
    text = re.sub(r"([a-z])\s*\\neq\s*\\pm\s*([^,;]+)$", r"\1\\neq \2, \1\\neq -\2", text)
    alternatives = [_pieces(part, ",") for part in _pieces(text, ";")]
    parts = [part for together in alternatives for part in together]
    related = len(parts) > 1 and _RELATION.search(text) and all("=" in part or _RELATION.search(part) for part in parts)
    return alternatives if related and len(set(_VARIABLE.findall(text))) == 1 else []


def _pieces(text: str, separators: str) -> list[str]:
    """The parts of the text between separators outside all brackets."""
    pieces, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character in separators and text[place - 1 : place] not in ("<", ">", "!", "\\"):
            pieces.append(text[start:place].strip())
            start = place + 1
    return [*pieces, text[start:].strip()]


def without_names(text: str, other: str) -> str:
    """The values of "x = 5" and "x = 2, y = 3" if the other side has no equation; the exact side of an "≈"."""
    exact, *rest = re.split(r"\\approx\b|\\simeq\b", text)
    text = (rest[0] if rest and _NAME.fullmatch(exact) else exact).strip()
    text = _FUNCTION.sub("y =", text) if re.match("y ?=", other) else text
    text = _CONSTANT.sub("+ C", text) if re.search(r"\+ ?C$", other) else text
    named = [_pieces(part, "=") for part in _pieces(text, ",;")]
    equations = len(_pieces(other, "=")) > 1
    if equations and (both := _NAMED_TUPLE.fullmatch(text)) and both[1].count(",") == both[2].count(","):
        return ", ".join(map("{} = {}".format, both[1].split(","), both[2].split(",")))
    if equations or conditions(text) or not any(len(part) > 1 for part in named):
        return text
    if any(part[-1] == "0" and len(part) > 1 and not _NAME.fullmatch(part[0]) for part in named):
        return text  # an equation to be solved, not a value
    if len(groups := _pieces(text, ";")) > 1 and all(len(_pieces(group, ",")) > 1 for group in groups):
        return ", ".join(without_names(group, "(1, 2)") for group in groups)  # x = 1, y = 2 or x = 2, y = 1
    values = ", ".join(part[-1] for part in named)
    names = {part[0] for part in named if len(part) > 1}
    return f"({values})" if len(names) == len(named) and ";" not in text and structure(other)[0] == "()" else values


def named_alike(text: str, other: str) -> str:
    """``text`` with the names before "=" in the other side's case: "X = 5" is "x = 5" beside "x = 4"."""
    names = {name.swapcase(): name for name in _VALUE_OF.findall(other)}
    names |= {name: name for name in names.values()}
    return _VALUE_OF.sub(lambda name: names.get(name[1], name[1]), text)


def structure(text: str) -> tuple[str, list[str]]:
    """(kind, elements). Kinds: "list" (also a set), "()", "[]", "(]", "[)", ":" (a ratio), "" (a single value)."""
    text = re.sub(r"\\langle\b(.*)\\rangle\b", r"(\1)", text.strip())
    if conditions(text):
        return "", [text]
    if (column := _COLUMN.fullmatch(text)) is not None and len(rows := column[1].rstrip("\\ ").split("\\\\")) > 1:
        return "()", rows
    if text.startswith("\\{") and text.endswith("\\}") and closing_brace(text[1:]) == len(text) - 2:
        return "list", list(dict.fromkeys(element for part in _pieces(text[2:-2], ",;") for element in _signs(part)))
    if len(parts := _pieces(text, ",;")) > 1:
        return "list", [element for part in parts if part for element in _signs(part)]
    if text[:1] in "([" and text[-1:] in ")]" and closing_brace(text) == len(text) - 1:
        inside = _pieces(text[1:-1], ",;")
        if len(inside) > 1:
            signs = _signs(text)  # (0, \pm 1): two tuples
            return (text[0] + text[-1], inside) if len(signs) == 1 else ("list", signs)
    if len(parts := _pieces(text, ":")) > 1:
        return ":", parts
    return "list" if len(signs := _signs(text)) > 1 else "", signs


def _signs(text: str) -> list[str]:
    """Both values of an expression with one plus-minus sign, or the text itself."""
    if text.count("\\pm") != 1 or text.startswith("\\{"):
        return [text]
    return [text.replace("\\pm", sign).replace("\\mp", other).removeprefix("+") for sign, other in ("+-", "-+")]


def element(text: str, other: str) -> str:
    """The element of a set of one; the set itself beside an interval such as [3, 3]."""
    inside = _SINGLE.sub(r"\1", text)
    return inside if inside.startswith("(") or not other.startswith(("(", "[")) else text
