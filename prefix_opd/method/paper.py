"""The published tables of the paper (arXiv 2602.15260 v1)."""

from __future__ import annotations

from dataclasses import dataclass

BENCHMARKS = ("MATH500", "AIME24", "AIME25", "GPQA", "MMLU-Pro")
"""Columns of the tables: mean accuracy in %, over 16 samples for AIME and 4 for the others."""

DATA_SETS = {
    "math500": "MATH500",
    "aime2024": "AIME24",
    "aime2025": "AIME25",
    "gpqa-main": "GPQA",
    "gpqa-diamond": "GPQA",
    "mmlu-pro": "MMLU-Pro",
}
"""Data set in this package -> column. The paper does not say which part of GPQA it uses."""

SIZES = ("1.7b", "8b")
TEACHER = "Qwen/Qwen3-8B"
STUDENTS = {"1.7b": "Qwen/Qwen3-1.7B-Base", "8b": "Qwen/Qwen3-8B-Base"}
ROLLOUTS = 512 * 4
"""Sequences per update."""
FULL_LENGTH = 16_384


@dataclass(frozen=True)
class PaperRow:
    """One row of the main tables."""

    size: str
    """The student's size, one of `SIZES`."""
    run: str
    accuracy: tuple[float, float, float, float, float]
    """In %, in the order of `BENCHMARKS`."""
    flop: float | None = None
    """Training FLOP by the paper's accounting, without evaluation."""
    hours: float | None = None
    """Hours on 8 x A100, without evaluation."""


TABLE = (
    PaperRow("1.7b", "base", (20.1, 0.2, 0.0, 11.2, 9.1)),
    PaperRow("1.7b", "OPD, 10 steps", (43.4, 5.4, 3.5, 18.3, 30.7), 8.2e18, 12.2),
    PaperRow("1.7b", "SeqKD, 300 steps", (60.5, 4.6, 6.9, 20.2, 28.5), 1.3e19, 3.7),
    PaperRow("1.7b", "prefix 256", (50.0, 4.8, 6.3, 1.0, 1.5), 9.4e17, 2.4),
    PaperRow("1.7b", "prefix 512", (47.6, 4.2, 6.0, 1.1, 1.0), 1.4e18, 2.8),
    PaperRow("1.7b", "prefix 1024", (54.5, 8.1, 9.0, 1.1, 1.9), 2.5e18, 3.4),
    PaperRow("1.7b", "prefix 2048", (58.3, 7.3, 5.8, 4.5, 12.0), 4.7e18, 5.0),
    PaperRow("1.7b", "OPD full", (67.3, 10.0, 11.5, 24.6, 41.3), 5.7e19, 68.6),
    PaperRow("1.7b", "SeqKD, 1 500 steps", (70.8, 8.8, 14.4, 19.8, 29.6), 6.6e19, 18.3),
    PaperRow("1.7b", "prefix schedule", (68.1, 10.6, 11.5, 23.6, 39.4), 2.4e19, 30.8),
    PaperRow("8b", "base", (39.0, 5.2, 2.1, 17.6, 26.5)),
    PaperRow("8b", "OPD, 10 steps", (77.6, 23.3, 24.2, 47.5, 62.7), 2.7e19, 23.3),
    PaperRow("8b", "SeqKD, 300 steps", (88.3, 31.9, 25.4, 38.5, 52.6), 4.4e19, 11.3),
    PaperRow("8b", "prefix 256", (82.0, 30.8, 26.3, 35.5, 58.9), 3.4e18, 3.2),
    PaperRow("8b", "prefix 512", (84.7, 33.5, 26.7, 35.7, 60.3), 5.2e18, 4.8),
    PaperRow("8b", "prefix 1024", (84.1, 36.5, 28.3, 37.1, 60.5), 8.9e18, 5.6),
    PaperRow("8b", "prefix 2048", (87.1, 39.2, 31.3, 40.0, 61.3), 1.7e19, 9.8),
    PaperRow("8b", "OPD full", (87.4, 44.2, 33.5, 48.8, 66.5), 1.8e20, 148.3),
    PaperRow("8b", "SeqKD, 1 500 steps", (91.3, 41.7, 34.6, 42.2, 55.4), 2.2e20, 56.7),
    PaperRow("8b", "prefix schedule", (86.9, 44.0, 33.5, 48.3, 66.1), 7.5e19, 53.0),
)


@dataclass(frozen=True)
class FlopRow:
    """A published FLOP figure and the set-up that the paper gives for it."""

    size: str
    run: str
    schedule: dict[str, int | str]
    """Config node ``prefix_opd.schedule``."""
    updates: int
    """Number of updates: as the paper states it, or the 60 of the set-up (``stated=False``)."""
    flop: float
    stated: bool = True
    note: str = ""
    """Remark on an ambiguous statement in the paper."""


def _prefix(length: int) -> dict[str, int | str]:
    return {"name": "constant", "length": length}


_FULL: dict[str, int | str] = {"name": "full"}
_LINEAR: dict[str, int | str] = {"name": "linear", "start": 1, "increment": 256}

FLOP_ROWS = (
    FlopRow("8b", "prefix 256", _prefix(256), 10, 5.7e17, note="the 47x of the abstract"),
    FlopRow("8b", "prefix 256", _prefix(256), 60, 3.4e18, stated=False),
    FlopRow("8b", "prefix 512", _prefix(512), 50, 5.2e18),
    FlopRow("8b", "prefix 1024", _prefix(1024), 40, 8.9e18),
    FlopRow("8b", "prefix 2048", _prefix(2048), 40, 1.7e19),
    FlopRow("8b", "prefix 2048", _prefix(2048), 60, 1.7e19, note="the paper's own count of steps"),
    FlopRow("8b", "prefix schedule", _LINEAR, 60, 7.5e19),
    FlopRow("8b", "OPD, 10 steps", _FULL, 10, 2.7e19),
    FlopRow("8b", "OPD full", _FULL, 60, 1.8e20),
    FlopRow("1.7b", "prefix 256", _prefix(256), 60, 9.4e17, stated=False),
    FlopRow("1.7b", "prefix 512", _prefix(512), 60, 1.4e18, stated=False),
    FlopRow("1.7b", "prefix 1024", _prefix(1024), 60, 2.5e18, stated=False),
    FlopRow("1.7b", "prefix 2048", _prefix(2048), 60, 4.7e18, stated=False),
    FlopRow("1.7b", "prefix schedule", _LINEAR, 60, 2.4e19),
    FlopRow("1.7b", "OPD, 10 steps", _FULL, 10, 8.2e18),
    FlopRow("1.7b", "OPD full", _FULL, 60, 5.7e19),
)


def rows(size: str) -> list[PaperRow]:
    """The rows of one student."""
    return [row for row in TABLE if row.size == size]
