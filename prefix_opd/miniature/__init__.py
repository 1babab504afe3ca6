"""Two toy tasks that show the effect of prefix distillation on a CPU in minutes.

A tiny teacher (Qwen3 architecture) solves problems step by step inside ``<think>...</think>``. A tiny "base" student
has the same skill but mostly answers in a quick, careless style. The first token of an answer decides the style, so
correcting short prefixes already helps. The end of an answer can only be learned on long rollouts. The reader is a
third model of the first task: a student that can use a solution in its prompt, so it can learn from itself.

Reading order: ``task`` (what the tasks share), ``chain`` and ``cells`` (the tasks), ``tokenizer``, ``data`` (verl's
parquet), ``measure`` (accuracy of a Hugging Face folder), ``sft`` and ``build`` (training of the shipped weights).
"""

from __future__ import annotations

from pathlib import Path

from prefix_opd.miniature.cells import Cells
from prefix_opd.miniature.chain import Chain
from prefix_opd.miniature.task import Problem

WEIGHTS = Path(__file__).parent / "weights"


TASKS: dict[str, type[Problem]] = {"chain": Chain, "cells": Cells}
MODELS = ("teacher", "student", "reader", "cells_teacher", "cells_student")


def shipped_models() -> dict[str, Path]:
    """Name -> folder of the shipped weights, each a Hugging Face model folder. Names without a task are the chain's."""
    return {name: WEIGHTS / name for name in MODELS}
