"""Which metrics stand in the list."""

import re

from prefix_opd.method import names


def is_listed(name: str) -> bool:
    """Whether `names.ALL` contains a metric."""
    return any(pattern.fullmatch(name) for pattern in PATTERNS)


def pattern_of(listed: str) -> re.Pattern[str]:
    words = re.split(r"\{(.+?)\}", listed)  # every second word is a list of alternatives
    parts = ["(?:" + "|".join(words[i].split(",")) + ")" if i % 2 else words[i] for i in range(len(words))]
    return re.compile("".join(parts).replace("#", r"\d+").replace("*", ".+"))


PATTERNS = tuple(map(pattern_of, names.ALL))
