"""One training step as a line of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from prefix_opd.method.flops import ModelShape, exact_flops

CLOCK = "benchmark/clock"
"""The key that `benchmarks.clock` adds to verl's log: seconds of a monotonic clock at the end of the step."""
WALL = "benchmark/wall"
"""Likewise: seconds since 1970."""
GATE = "PREFIX_OPD_BENCHMARK_GATE"
"""Environment variable: a file that a run waits for before its first step, until its time limit."""


def step_line(
    case: Case,
    models: dict[str, Path],
    step: int,
    seconds: float,
    tokens: float,
    prompt: float,
    phases: dict[str, float],
) -> dict[str, Any]:
    """
    Args:
        models: folders of student and teacher.
        step: from 1.
        seconds: from the end of the step before to the end of this one.
        tokens: of all responses.
        prompt: mean tokens of a prompt.
        phases: seconds by phase, where they are known.

    Raises:
        ValueError: responses are shorter than the cap, so the comparison would not hold.
    """
    cap = case.cap_of(step)
    if not case.natural and round(tokens) != cap * case.sequences:
        raise ValueError(f"step {step}: {tokens:.0f} response tokens, not {case.sequences} x {cap}")
    student, teacher = (ModelShape.from_folder(models[role]) for role in ("student", "teacher"))
    lengths = ([prompt] * case.sequences, [tokens / case.sequences] * case.sequences)
    flops = exact_flops(student, teacher, *lengths, recomputed_log_probs=case.recomputes)
    return {
        "step": step,
        "cap": cap,
        "counts": case.counts(step) and not case.observed,
        "seconds": seconds,
        "phases": phases,
        "tokens": round(tokens),
        "sequences": case.sequences,
        "flops": flops.total,
        "flops_by_phase": flops.as_dict(),
    }
