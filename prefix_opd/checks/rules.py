"""Rules for one config value: a rule takes the value and returns what it must be, or "" if it is valid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Rule = Callable[[Any], str]


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def whole(least: int = 1, also: tuple[Any, ...] = ()) -> Rule:
    """An integer of at least ``least``, or one of ``also``."""
    told = f"must be a whole number of at least {least}" + _or(also)
    return lambda value: "" if _is_one(value, also) or (is_whole(value) and value >= least) else told


def number(least: float = -math.inf, above: float = -math.inf, most: float = math.inf, none: bool = False) -> Rule:
    """A finite number within the bounds; ``none`` also allows null."""
    bounds = [f"above {above:g}"] if above > -math.inf else [f"at least {least:g}"] if least > -math.inf else []
    bounds += [f"at most {most:g}"] if most < math.inf else []
    told = " ".join(["must be a number", " and ".join(bounds)]).rstrip() + (", or null" if none else "")

    def rule(value: Any) -> str:
        if value is None:
            return "" if none else told
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return told
        return "" if max(least, above) <= value <= most and value != above else told

    return rule


def flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def one_of(*allowed: Any) -> Rule:
    told = f"must be {', '.join('null' if value is None else str(value) for value in allowed[:-1])}"
    told = f"{told} or {allowed[-1]}" if len(allowed) > 1 else f"must be {allowed[0]}"
    return lambda value: "" if _is_one(value, allowed) else told


def text(value: Any) -> str:
    return "" if isinstance(value, str) and value.strip() else "must be a text that is not empty"


def name_of_a_folder(value: Any) -> str:
    """A string that can be part of a path and that verl does not split."""
    if problem := text(value):
        return problem
    return "must be one name, without a slash" if "/" in value or value in (".", "..") or "\0" in value else ""


def optional(rule: Rule) -> Rule:
    """A value that ``rule`` allows, or null."""
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


def _is_one(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(value == one and type(value) is type(one) for one in allowed)


def _or(also: tuple[Any, ...]) -> str:
    return "".join(", or null" if value is None else f", or {value}" for value in also)
