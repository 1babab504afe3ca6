"""Grades one response."""

from __future__ import annotations

import functools

from prefix_opd.base.errors import UserError
from prefix_opd.grading.choice import LETTERS, find_letter
from prefix_opd.grading.mathematics import equal, find_answer
from prefix_opd.grading.pool import WorkerLost, shared_pool
from prefix_opd.grading.text import answer_part
from prefix_opd.grading.verdict import DIFFERENT, EQUAL, UNFINISHED, GradeSettings, Verdict

KINDS = ("math", "choice")


def grade(
    response: str,
    ground_truth: str,
    kind: str,
    settings: GradeSettings | None = None,
    n_options: int = len(LETTERS),
) -> Verdict:
    """Grades one response. The time is limited, and any thread may call it.

    Args:
        response: the generated text. After a prompt that ends with ``<think>``, it has ``</think>`` and no ``<think>``.
        ground_truth: the true answer; for "choice" the letter of the right option.
        kind: "math" or "choice".
        settings: limits and rules of grading.
        n_options: number of options of a choice question, 2 to 10. Letters beyond them do not count.
    """
    settings = settings or GradeSettings()
    if kind not in KINDS:
        raise UserError(f"kind={kind!r}", f"must be one of {', '.join(KINDS)}")
    truth = ground_truth.strip()
    if not truth:
        raise UserError("ground_truth=''", "must not be empty")
    if kind == "choice" and (len(truth) != 1 or truth not in LETTERS):
        raise UserError(f"ground_truth={truth!r}", f"must be a letter from A to {LETTERS[-1]} for multiple choice")
    part = answer_part(response, settings.require_think_end)
    if part is None:
        return Verdict(False, "", UNFINISHED)
    if not part.strip():
        return Verdict(False, "", "nothing follows the thinking")
    part = part[-settings.max_chars :]
    if kind == "choice":
        letter = find_letter(part, n_options)
        if letter is None:
            return Verdict(False, "", "no option was named")
        return Verdict(letter == truth, letter, EQUAL if letter == truth else DIFFERENT)
    answer, why_not = find_answer(part)
    if not answer:
        return Verdict(False, "", why_not)
    if len(answer) > settings.max_answer_chars:
        return Verdict(False, answer[: settings.max_answer_chars], "the answer is too long to be parsed")
    pool = shared_pool(settings.workers, int(settings.memory_gib * 2**30))
    try:
        same = equal(answer, truth, functools.partial(pool.equal, limit_s=settings.time_limit_s))
    except TimeoutError:
        return Verdict(False, answer, f"the comparison took longer than {settings.time_limit_s:g} s")
    except WorkerLost as error:
        return Verdict(False, answer, f"the comparison failed ({error})")
    return Verdict(same, answer, EQUAL if same else DIFFERENT)
