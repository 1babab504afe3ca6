"""A toy task that shows the effect of prefix distillation on a CPU in minutes.

A tiny teacher (Qwen3 architecture) solves chains of additions and subtractions step by step inside
``<think>...</think>``. A tiny "base" student has the same skill but mostly answers in a quick, careless style. The
first token of an answer decides the style, so correcting short prefixes already helps. The end of an answer can only
be learned on long rollouts. A third model, the reader, is a student that can use a solution in its prompt, so it can
learn from itself.

Reading order: ``task`` (problems, solutions, grader), ``tokenizer``, ``data`` (verl's parquet), ``measure`` (accuracy
of a Hugging Face folder), ``sft`` and ``build`` (training of the shipped weights).
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the shipped weights, each a Hugging Face model folder."""
    return {role: WEIGHTS / role for role in ("teacher", "student", "reader")}
