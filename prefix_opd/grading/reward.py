"""verl's reward function: ``custom_reward_function.path`` or ``name`` points at ``compute_score``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.grading.choice import LETTERS
from prefix_opd.grading.expression import canonical
from prefix_opd.grading.grader import grade
from prefix_opd.grading.verdict import GradeSettings

TINY = "tiny/"
CHOICE_BEGINNINGS = ("gpqa", "mmlu")

_SETTINGS = {field.name for field in dataclasses.fields(GradeSettings)}
_FROM_VERL = {"reward_router_address", "reward_model_tokenizer"}


def kind_of(data_source: str, n_options: int = 0) -> str:
    """tiny, choice or math, by the name of the data set; options make any set multiple choice."""
    if data_source.startswith(TINY):
        return "tiny"
    name = data_source.rpartition("/")[2].lower()
    return "choice" if n_options or name.startswith(CHOICE_BEGINNINGS) else "math"


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | None,
    extra_info: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Grades one response for verl.

    Args:
        data_source: name of the data set; "tiny/…", GPQA and MMLU-Pro have graders of their own, others are maths.
        solution_str: the response as text.
        ground_truth: the true answer; empty for a question without one, which scores 0 and is graded by "none".
        extra_info: ``n_options`` is read.
        kwargs: fields of ``GradeSettings`` (``custom_reward_function.reward_kwargs``), and what verl adds itself.

    Returns:
        score: 1.0 or 0.0. pred: the answer in the spelling under which votes are counted (maj@k), "" for none.
        graded_by: tiny, choice, math or none.
    """
    unknown = set(kwargs) - _SETTINGS - _FROM_VERL
    if unknown:
        raise UserError(f"reward_kwargs.{min(unknown)}", "is not known", f"choose from {', '.join(sorted(_SETTINGS))}")
    settings = GradeSettings(**{name: value for name, value in kwargs.items() if name in _SETTINGS})
    n_options = int((extra_info or {}).get("n_options") or 0)
    kind, truth = kind_of(data_source, n_options), "" if ground_truth is None else str(ground_truth)
    if kind == "tiny":
        from prefix_opd.miniature import task  # only the miniature needs it

        answer = solution_str.rpartition("</think>")[2] if "</think>" in solution_str else ""
        return {"score": float(task.grade(solution_str, truth)), "pred": answer.strip(), "graded_by": kind}
    if not truth.strip():
        return {"score": 0.0, "pred": "", "graded_by": "none"}
    verdict = grade(solution_str, truth, kind, settings, n_options or len(LETTERS))
    return {"score": float(verdict.correct), "pred": canonical(verdict.extracted), "graded_by": kind}
