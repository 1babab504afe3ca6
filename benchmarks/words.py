"""Results in words: names of systems, fits, the crossover, a cell of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.cases import NATIVE, NATIVE_POLL, OURS, Case
from benchmarks.rows import Lead, Line, Row, Spread, Steps, crossover, fit
from harness.store import Row as Result

Section = Callable[[Sequence[Case], Steps, Sequence[Result]], str]
"""Writes a section of the page from a group's cases."""

NAMES = {
    OURS: "ours",
    NATIVE_POLL: "verl's own OPD, poll 0.05 s",
    NATIVE: "verl's own OPD, poll 2 s",
    "trl_gkd": "TRL GKD",
    "trl_distillation": "TRL Distillation",
    "trl_iw_opd": "TRL IW-OPD",
}


def crossover_words(found: Sequence[Lead]) -> str:
    """The size from which ours is faster than TRL, in a sentence; empty without a comparison."""
    if not found:
        return ""
    ratios = ", ".join(f"{lead.ratio:.2f} ({_place(lead)})" for lead in found)
    ahead = [lead.ratio >= 1 for lead in found]
    if (crossing := crossover(found)) is not None:
        behind = max(i for i, is_ahead in enumerate(ahead) if not is_ahead)
        verdict = (
            f"ours stays ahead from {crossing:.1e} FLOP a step on, "
            f"between {_place(found[behind])} and {_place(found[behind + 1])}"
        )
    elif all(ahead):
        verdict = "ours is ahead in all of them, so the crossover lies below"
    elif any(ahead):
        verdict = "neither stays ahead, so there is no one crossover"
    else:
        verdict = "TRL is ahead in all of them, so the crossover lies above"
    return f"Sequences a second, ours against TRL's fastest, by FLOP a step: {ratios}; {verdict}."


def _place(lead: Lead) -> str:
    return f"{lead.ours.case.model}, cap {lead.ours.cap}"


def fixed_cost_words(rows: Sequence[Row]) -> str:
    """The fixed cost of a step, fitted against sampled tokens and against FLOP."""
    return " ".join(
        part
        for part in (
            fit_words(fit(rows, "tokens"), 1000, "thousand response tokens"),
            fit_words(fit(rows, "flops"), 1e12, "TFLOP"),
        )
        if part
    )


def fit_words(line: Line | None, unit: float, unit_name: str) -> str:
    """Fixed and variable cost of a step, and where they are equal; empty without a line."""
    if line is None:
        return ""
    sentence = (
        f"Least squares over all measured steps: {line.fixed:.2f} s fixed + {line.slope * unit:.3f} s for each "
        f"{unit_name} (r² {line.r_squared:.2f})"
    )
    if line.even is None:
        return sentence + "."
    return sentence + f"; the two are even at {line.even / unit:.3g} {unit_name}."


def started(first: float, last: float) -> str:
    return f"{first:.1f}" if first == last else f"{first:.1f}–{last:.1f}"


def cell(value: Spread, digits: int = 3) -> str:
    return f"{value.median:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"
