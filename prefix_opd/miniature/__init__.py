"""A toy on which prefix distillation shows its effect on a CPU, in minutes.

A tiny teacher (Qwen3 architecture) solves chains of additions and subtractions step by step inside
``<think>...</think>``. A tiny "base" student knows how to do that, but mostly chooses a quick and careless way.
It chooses with the first token of its answer, so a teacher that corrects short prefixes already helps a lot, while
the end of the answer has to be learnt at the end of the answer.

Read in this order: ``task`` (problems, solutions, grader), ``tokenizer``, ``data`` (verl's parquet), ``sample`` and
``measure`` (accuracy of a Hugging Face folder), ``sft`` and ``build`` (how the shipped weights were made).
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def shipped_models() -> dict[str, Path]:
    """Folders of the shipped weights: ``{"teacher": ..., "student": ...}``, each a Hugging Face model folder."""
    return {role: WEIGHTS / role for role in ("teacher", "student")}
