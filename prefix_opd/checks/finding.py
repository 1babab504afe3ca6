"""The result of a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table.

    Example: ``Finding(Status.WARN, "3 of 40 prompts are equal", "remove the copies", check="duplicates")``.
    """

    status: Status
    reason: str
    """What was checked and the result, with numbers."""
    remedy: str = ""
    """What to change; empty if nothing."""
    check: str = ""
    """The check's name in the list of checks."""

    detail: str = ""
    """Details that only ``--json`` prints."""

    def named(self, check: str) -> Finding:
        return replace(self, check=check)

    def as_dict(self) -> dict[str, Any]:
        return {key: str(value) for key, value in asdict(self).items()}


def ok(reason: str, detail: str = "") -> Finding:
    return Finding(Status.OK, reason, detail=detail)


def warn(reason: str, remedy: str) -> Finding:
    return Finding(Status.WARN, reason, remedy)


def fail(reason: str, remedy: str) -> Finding:
    return Finding(Status.FAIL, reason, remedy)
