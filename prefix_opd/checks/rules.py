"""Rules for one config value: a rule takes the value and returns what it must be, or "" if it is valid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from prefix_opd.base.fields import LARGEST

Rule = Callable[[Any], str]


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int = 1, also: int | None = None, most: int = LARGEST) -> Rule:
    """An integer from ``least`` to ``most``, or ``also``."""
    told = f"must be a whole number of at least {least}" + ("" if also is None else f", or {also}")

    def rule(value: Any) -> str:
        if is_whole(value) and (least <= value <= most or value == also):
            return ""
        return told + (f" and at most {most}" if most < LARGEST or (is_whole(value) and value > most) else "")

    return rule


def number(least: float = -math.inf, above: float = -math.inf, most: float = math.inf) -> Rule:
    """A finite number within the bounds."""
    bounds = [f"above {above:g}"] if above > -math.inf else [f"at least {least:g}"] if least > -math.inf else []
    bounds += [f"at most {most:g}"] if most < math.inf else []
    told = f"must be a number {' and '.join(bounds)}"

    def rule(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return told
        return "" if max(least, above) <= value <= most and value != above else told

    return rule


def flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def updates(value: Any) -> str:
    return "" if is_whole(value) and abs(value) <= LARGEST else "must be a whole number of updates, or -1 for never"


def one_of(first: str, *others: str) -> Rule:
    told = f"must be {', '.join((first, *others[:-1]))} or {others[-1]}"
    return lambda value: "" if isinstance(value, str) and value in (first, *others) else told


def text(value: Any) -> str:
    return "" if isinstance(value, str) and value.strip() else "must be a text that is not empty"


def name(value: Any) -> str:
    """A string that can be part of a path and that verl does not split."""
    if problem := text(value):
        return problem
    return "must be one name, without a slash" if "/" in value or value in (".", "..") or "\0" in value else ""


def optional(rule: Rule) -> Rule:
    return lambda value: "" if value is None else (told := rule(value)) and f"{told}, or null"


def list_of(rule: Rule, least: int = 0, most: float = math.inf) -> Rule:
    """A list of ``least`` to ``most`` entries; ``rule`` applies to each."""

    def check(value: Any) -> str:
        if not isinstance(value, list) or not least <= len(value) <= most:
            return "must be a list" + (f" of {least}" if least == most else "")
        return next((f"each entry {problem}" for entry in value if (problem := rule(entry))), "")

    return check


def elsewhere(value: Any) -> str:
    """Any value; a separate check examines it."""
    return ""
