"""Reverse KL by position in the response (arXiv 2602.15260, figures 2 and 5).

Reverse KL of a sampled token = log p_student - log p_teacher, in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from prefix_opd.base.errors import UserError
from prefix_opd.method import names
from prefix_opd.run.history import History


@dataclass(frozen=True)
class Bin:
    """Tokens at neighbouring positions."""

    first: int
    """Position in the response, from 0."""
    tokens: int
    mean: float
    """Mean reverse KL of a token, nats."""
    abs_mean: float
    """Mean |reverse KL| of a token, nats."""


@dataclass(frozen=True)
class Curve:
    """One step, one group of rollouts."""

    step: int
    prefix_length: Annotated[int, Field(serialization_alias="cap")]
    """L of the step, tokens; ``cap`` in the file."""
    group: str
    bins: list[Bin]


@dataclass(frozen=True)
class Signal:
    """All curves of a run."""

    name: str
    width: int
    """Positions per bin."""
    curves: list[Curve]

    def as_dict(self) -> dict[str, Any]:
        return TypeAdapter(Signal).dump_python(self, by_alias=True)


def signal(history: History, steps: Sequence[int] | None = None, width: int | None = None) -> Signal:
    """Read the curves of a run.

    Args:
        steps: by default the first, the middle and the last probed step; without probes, of all steps.
        width: positions per bin, a multiple of the recorded width, by default that width.

    Raises:
        UserError: the run recorded no counts, has no such step, or ``width`` is not a multiple.
    """
    config = history.config
    recorded = -(-int(config.data.max_response_length) // int(config.prefix_opd.position_bins))
    width = recorded if width is None else width
    if width < 1 or width % recorded:
        rule = f"must be a positive multiple of the {recorded} positions per bin that the run recorded"
        raise UserError(f"--bin={width}", rule)
    lines = {line["step"]: line for line in history.updates}
    if not any(_bins(line, "all", width) for line in lines.values()):
        why = "it used an earlier version, or a loss over the teacher's top tokens"
        raise UserError(str(history.folder), "recorded no reverse KL with token counts by position", why)
    chosen = list(steps) if steps else _three([step for step, line in lines.items() if _bins(line, "probe", width)])
    chosen = chosen or _three(list(lines))
    for step in chosen:
        if step not in lines:
            raise UserError(f"--steps {step}", f"{history.folder} has no such update; it has 1 to {max(lines)}")
    curves = [
        Curve(step, int(lines[step][names.PREFIX_LENGTH]), group, bins)
        for step in chosen
        for group, bins in _groups(lines[step], width).items()
    ]
    return Signal(history.name, width, curves)


def _three(steps: Sequence[int]) -> list[int]:
    return sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []


def _groups(line: Mapping[str, Any], width: int) -> dict[str, list[Bin]]:
    """The groups that have tokens, without groups that equal "all"."""
    found = {group: bins for group in names.GROUPS if (bins := _bins(line, group, width))}
    return {group: bins for group, bins in found.items() if group in ("all", "probe") or bins != found["all"]}


def _bins(line: Mapping[str, Any], group: str, width: int) -> list[Bin]:
    """Pool the recorded bins, weighted by token counts, which is exact."""
    mean, magnitude, tokens = names.by_position(group)
    pooled: dict[int, list[float]] = {}
    for first, count in names.bins(line, tokens).items():
        sums = pooled.setdefault(first // width * width, [0.0, 0.0, 0.0])
        for i, value in enumerate((1.0, line[f"{mean}{first}"], line[f"{magnitude}{first}"])):
            sums[i] += count * value
    return [Bin(first, int(n), total / n, size / n) for first, (n, total, size) in sorted(pooled.items())]
