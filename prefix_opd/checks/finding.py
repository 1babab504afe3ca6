"""The result of a check, and how results are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefix_opd.base.errors import UserError


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """Example: ``Finding(Status.WARN, "3 of 40 prompts are equal", "remove the copies", check="duplicates")``."""

    status: Status
    reason: str
    """What was checked and the result, with numbers."""
    remedy: str = ""
    """What to change; empty if nothing."""
    check: str = ""
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


STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}


def render(findings: Sequence[Finding]) -> Table:
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}
    table = Table(caption=", ".join(f"{count} {status}" for status, count in counts.items()))
    for column in ("", "check", "what was found, and what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        remedy = f"\n[bold]→ {escape(finding.remedy)}[/bold]" if finding.remedy else ""
        style = STYLES[finding.status]
        table.add_row(f"[{style}]{finding.status}[/{style}]", finding.check, escape(finding.reason) + remedy)
    return table


def say(findings: Sequence[Finding], console: Console) -> None:
    """Before a run: print one line per warning. Raises UserError for the first fail."""
    for finding in findings:
        if finding.status is Status.FAIL:
            raise UserError(finding.check, finding.reason, finding.remedy)
        if finding.status is Status.WARN:
            line = f"[yellow]{finding.check}[/yellow]: {escape(finding.reason)}; {escape(finding.remedy)}"
            console.print(line, highlight=False, soft_wrap=True)
