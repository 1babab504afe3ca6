"""Checks that student and teacher share token ids and end tokens."""

from __future__ import annotations

from prefix_opd.checks.case import Case
from prefix_opd.checks.finding import Finding, fail, ok, warn
from prefix_opd.config.models import Model, check_same_vocabulary


def same_ids(case: Case) -> Finding:
    check_same_vocabulary(case.student, case.teacher)
    return ok(f"{len(case.student.tokenizer)} tokens, all with one id in both")


def same_special_tokens(case: Case) -> Finding:
    """A token that only one tokenizer treats as special is graded differently; different names are reported."""
    ours, theirs = (_special(model) for model in (case.student, case.teacher))
    for index in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(index), theirs.get(index)
        if mine != other:
            return warn(
                f"id {index} is {_told(mine)} for the student and {_told(other)} for the teacher",
                "take the tokenizer files of one family for both",
            )
    return ok(f"{len(ours)} added tokens, special or not alike")


def _special(model: Model) -> dict[int, tuple[str, bool]]:
    return {index: (token.content, token.special) for index, token in model.tokenizer.added_tokens_decoder.items()}


def _told(token: tuple[str, bool] | None) -> str:
    return "no added token" if token is None else f"{'the special' if token[1] else 'the plain'} token {token[0]!r}"


def end_tokens(case: Case) -> Finding:
    """The end tokens of both models, and the stop tokens of rollouts."""
    student, teacher, stops = set(case.student.end_token_ids), set(case.teacher.end_token_ids), set(case.stop_ids)
    reason = f"the student ends with {_names(case, student)}, the teacher with {_names(case, teacher)}, "
    reason += f"rollouts stop on {_names(case, stops)}"
    remedy = "set prefix_opd.rollout.stop=both"
    if not stops:
        return fail(f"{reason}: they never end", remedy)
    if not stops & teacher:
        return warn(f"{reason}: an ending as the teacher's cannot be learnt", remedy)
    if student - stops:
        return warn(f"{reason}: the student runs on after its own end", remedy)
    if not student & teacher:
        return warn(
            f"{reason}: the teacher never gives the student's own, so its ending changes as L grows to reach it; "
            "by its files, that is: --engines counts how the teacher's own texts end",
            "take a student that ends as the teacher does, or see to it that L reaches the ends of answers",
        )
    return ok(f"{reason}; by their files: --engines counts how the teacher's own texts end")


def _names(case: Case, ids: set[int]) -> str:
    names = (f"{case.student.tokenizer.convert_ids_to_tokens(index)} ({index})" for index in sorted(ids))
    return ", ".join(names) or "nothing"
