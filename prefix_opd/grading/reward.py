"""verl's reward function ``compute_score``, which ``custom_reward_function`` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from prefix_opd.base.errors import UserError
from prefix_opd.grading.choice import LETTERS
from prefix_opd.grading.expression import canonical
from prefix_opd.grading.grader import grade
from prefix_opd.grading.text import answer_part
from prefix_opd.grading.verdict import DIFFERENT, EQUAL, UNFINISHED, GradeSettings
from prefix_opd.method.prompt import THINK_END, THINK_START, opens_thinking

TINY = "tiny/"
CHOICE_BEGINNINGS = ("gpqa", "mmlu")

_SETTINGS = set(GradeSettings.model_fields)
_FROM_RUN = {"reward_router_address", "reward_model_tokenizer", "prompt_ending"}


def kind_of(data_source: str, n_options: int = 0) -> str:
    """ "tiny", "choice" or "math", by the name of the data set. A question with options is multiple choice."""
    if data_source.startswith(TINY):
        return "tiny"
    name = data_source.rpartition("/")[2].lower()
    return "choice" if n_options or name.startswith(CHOICE_BEGINNINGS) else "math"


def settings_from(kwargs: Mapping[str, Any]) -> GradeSettings:
    """The grader's settings. Raises UserError for a name that is not known and for a value out of bounds.

    Args:
        kwargs: see `compute_score`.
    """
    unknown = set(kwargs) - _SETTINGS - _FROM_RUN
    if unknown:
        raise UserError(f"reward_kwargs.{min(unknown)}", "is not known", f"choose from {', '.join(sorted(_SETTINGS))}")
    chosen = {name: value for name, value in kwargs.items() if name in _SETTINGS}
    if "prompt_ending" in kwargs:
        chosen.setdefault("require_think_end", opens_thinking(kwargs["prompt_ending"]))
    try:
        return GradeSettings(**chosen)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        rule = problem["msg"].removeprefix("Value error, ").lower()
        raise UserError(f"reward_kwargs.{problem['loc'][0]}={problem['input']}", rule) from None


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | None,
    extra_info: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Grades one response for verl.

    Args:
        data_source: name of the data set: "tiny/…", multiple choice (GPQA, MMLU-Pro), or else mathematics.
        solution_str: the response as text.
        ground_truth: the true answer. Without one the score is 0 and ``graded_by`` is "none".
        extra_info: may have ``n_options``.
        kwargs: fields of ``GradeSettings`` (``custom_reward_function.reward_kwargs``), arguments that verl adds, and
            ``prompt_ending``, the end of every rendered prompt. ``require_think_end`` is by default whether that end
            opens the thinking.

    Returns:
        ``score``: 1.0 or 0.0. ``pred``: the canonical answer for votes (maj@k), or "". ``graded_by``: "tiny", "choice",
        "math" or "none". ``reason``: a short phrase, see ``Verdict``.
    """
    settings = settings_from(kwargs)
    n_options = int((extra_info or {}).get("n_options") or 0)
    kind, truth = kind_of(data_source, n_options), "" if ground_truth is None else str(ground_truth)
    if kind == "tiny":
        from prefix_opd.miniature import task

        at_once = not settings.require_think_end and THINK_END not in solution_str
        text = f"{THINK_END}{solution_str}" if at_once else solution_str.rpartition(THINK_START)[2]  # the last turn
        part = answer_part(text, require_think_end=True)
        score = float(task.grade(text, truth))
        reason = UNFINISHED if part is None else EQUAL if score else DIFFERENT
        return {"score": score, "pred": (part or "").strip(), "graded_by": kind, "reason": reason}
    if not truth.strip():
        return {"score": 0.0, "pred": "", "graded_by": "none", "reason": "there is no true answer"}
    verdict = grade(solution_str, truth, kind, settings, n_options or len(LETTERS))
    pred = canonical(verdict.extracted)
    return {"score": float(verdict.correct), "pred": pred, "graded_by": kind, "reason": verdict.reason}
