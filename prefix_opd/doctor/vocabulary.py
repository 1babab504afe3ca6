"""Do student and teacher mean the same by a token id, and does a model have a row for each?"""

from __future__ import annotations

import math

from prefix_opd.doctor.case import Case
from prefix_opd.doctor.finding import Finding, fail, ok, warn
from prefix_opd.models import Model, check_same_vocabulary

SPARE_ROWS_NATS = 0.01
"""A gap between sampler and trainer that is worth a word, nats a token."""


def same_ids(case: Case) -> Finding:
    check_same_vocabulary(case.student, case.teacher)
    return ok(f"{len(case.student.tokenizer)} tokens, all with one id in both")


def same_special_tokens(case: Case) -> Finding:
    """A token that one decoder skips and the other prints is graded differently; other names are told."""
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


def embedding_rows(case: Case) -> Finding:
    """verl's sampler masks rows beyond the tokenizer (verl/workers/rollout/vllm_rollout/utils.py:
    monkey_patch_compute_logits) while its trainer's softmax counts them: log p of the two differ by
    -log(1 - mass of the spare rows)."""
    told, most = [], 0.0
    for name, model in (("student", case.student), ("teacher", case.teacher)):
        rows, tokens = model.shape.vocab_size, len(model.tokenizer)
        if rows < tokens:
            return fail(
                f"the {name} has {rows} embedding rows for {tokens} tokens: ids from {rows} on have none",
                f"resize its embeddings, or give the tokenizer that belongs to {model.path}",
            )
        told.append(f"{name} {rows - tokens} spare rows of {rows}")
        if name == "student":
            most = math.log(rows / tokens)
    reason = f"{', '.join(told)}; were the student's as likely as others, its trainer's log p would lie "
    reason += f"{most:.4f} nats under its sampler's"
    if most > SPARE_ROWS_NATS:
        return warn(reason, "shrink the student's embedding to its tokenizer; --engines measures the gap")
    return ok(reason)


def end_tokens(case: Case) -> Finding:
    """Who ends with what, and on what rollouts stop."""
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
        reason += "; the teacher never gives the student's own, so its ending changes as L grows to reach it"
    return ok(reason)


def _names(case: Case, ids: set[int]) -> str:
    names = (f"{case.student.tokenizer.convert_ids_to_tokens(index)} ({index})" for index in sorted(ids))
    return ", ".join(names) or "nothing"
