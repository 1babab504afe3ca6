"""Checks of the real engines' scores: whether the student can learn from them.

log p is the student's and log q the teacher's, in nats; rows are responses. The tolerances are chosen by hand: two
computations of one log-prob differ by rounding alone in fp32, and by about 0.01 nats on average in bf16 (8 bits).
"""

from __future__ import annotations

import math

import numpy as np

from prefix_opd.checks.engines import Rows, Scores
from prefix_opd.checks.finding import Finding, fail, ok, warn

MEAN_TOLERANCE = {True: 1e-4, False: 0.02}
"""Exact (fp32) or not -> tolerated mean |difference| of two computations of one log-prob, nats."""
UNIFORM_SHARE = 0.8
"""Share of log V. A teacher whose own text costs it more nats per token than this is broken."""
STANDARD_ERRORS = 2.0
MUCH = 0.5
"""If a few tokens have at least this share of the signal, they dominate it."""
PARTS = 4


def _all(rows: Rows) -> np.ndarray:
    return np.concatenate(rows)


def _agreement(scores: Scores, one: Rows, other: Rows, what: str, remedy: str, more: str = "") -> Finding:
    """Whether two computations of the same log-probs agree, by the mean and the maximum of |difference|."""
    gap, allowed = np.abs(_all(one) - _all(other)), MEAN_TOLERANCE[scores.exact]
    reason = f"{what}mean |difference| {gap.mean():.2g}, max {gap.max():.2g}{more} (allowed {allowed:g} mean)"
    return fail(reason, remedy) if gap.mean() > allowed else ok(reason)


def _by_position(one: Rows, other: Rows) -> list[float]:
    """Mean |difference| in each quarter of the positions."""
    longest = max(map(len, one))
    gaps: list[list[float]] = [[] for _ in range(PARTS)]
    for a, b in zip(one, other, strict=True):
        for position, gap in enumerate(np.abs(a - b)):
            gaps[position * PARTS // longest].append(float(gap))
    return [float(np.mean(gap)) for gap in gaps if gap]


def teacher_repeats_itself(scores: Scores) -> Finding:
    remedy = "look at the teacher's inference settings: dtype, quantization, enable_prefix_caching"
    return _agreement(scores, scores.teacher, scores.teacher_again, "scored twice, in other batches: ", remedy)


def teacher_knows_its_text(scores: Scores) -> Finding:
    surprise, uniform = -float(_all(scores.teacher_on_own).mean()), math.log(scores.vocabulary)
    reason = (
        f"the teacher's -log p of its own text is {surprise:.2f} nats a token, that of a uniform guess {uniform:.2f}"
    )
    if surprise > UNIFORM_SHARE * uniform:
        return fail(reason, "the teacher answers nonsense: look at its weights and its chat template")
    return ok(reason)


def teacher_leads(scores: Scores) -> Finding:
    gaps = _all(scores.teacher_on_own) - _all(scores.student_on_teachers)
    lead, error = float(gaps.mean()), float(gaps.std() / math.sqrt(len(gaps)))
    reason = f"on the teacher's own text the teacher leads the student by {lead:.3f} ± {error:.3f} nats a token"
    if lead < -STANDARD_ERRORS * error:
        return fail(reason, "the student is the better one: were the models exchanged?")
    if lead <= STANDARD_ERRORS * error:
        return warn(reason, "there is nothing to learn on these prompts: is the teacher the student?")
    return ok(reason)


def student_agrees_with_itself(scores: Scores) -> Finding:
    """With the student as its own teacher, the reverse KL must be 0."""
    kl = float((_all(scores.sampler) - _all(scores.student_again)).mean())
    remedy = "its engine samples from another distribution than it scores: look at logprobs_mode and top-p"
    what = f"reverse KL against itself {kl:.2g}, "
    return _agreement(scores, scores.sampler, scores.student_again, what, remedy)


def sampler_agrees_with_trainer(scores: Scores) -> Finding:
    parts = ", ".join(f"{part:.2g}" for part in _by_position(scores.sampler, scores.trainer))
    remedy = "look at the dtype of engine and trainer, and at spare embedding rows"
    more = f", by quarters of the positions {parts}"
    return _agreement(scores, scores.sampler, scores.trainer, "", remedy, more)


def where_the_signal_sits(scores: Scores) -> Finding:
    """Shares of the sum of |log p - log q| over the tokens that the student sampled."""
    signal = [np.abs(p - q) for p, q in zip(scores.sampler, scores.teacher, strict=True)]
    whole = _all(signal)
    total = float(whole.sum()) or 1.0  # without a signal all shares are 0
    first = sum(float(row[0]) for row in signal) / total
    special = np.array([token in scores.special_ids for row in scores.student_tokens for token in row])
    on_special = float(whole[special].sum()) / total
    reason = f"mean |reverse KL| {whole.mean():.3f} nats a token; {first:.1%} of it on first tokens, "
    reason += f"{on_special:.1%} on added tokens"
    if max(first, on_special) > MUCH:
        return warn(reason, "force the token in question with prefix_opd.prompt.ending, or align the chat templates")
    return ok(reason)


def teacher_ends_as_the_student(scores: Scores) -> Finding:
    """Compare the tokens that end the teacher's texts with the student's: the models' files may be wrong."""
    ended = [row[-1] for row in scores.teacher_tokens if row and row[-1] in scores.stop_ids]
    names = " or ".join(f"{name} ({index})" for index, name in scores.student_ends.items())
    given = sum(any(token in scores.student_ends for token in row) for row in scores.teacher_tokens)
    reason = f"{len(ended)} of the teacher's {len(scores.teacher_tokens)} texts ended, {given} hold {names}"
    if not ended and not given:
        return ok(f"{reason}: too short to tell what it ends with")
    if not given:
        remedy = "set prefix_opd.rollout.stop=both, so that the student can stop as the teacher does"
        return warn(f"{reason}: the student's own end token is never taught", remedy)
    return ok(reason)


CHECKS = (
    ("teacher's endings", teacher_ends_as_the_student),
    ("teacher repeats itself", teacher_repeats_itself),
    ("teacher knows its text", teacher_knows_its_text),
    ("teacher leads", teacher_leads),
    ("student against itself", student_agrees_with_itself),
    ("sampler and trainer", sampler_agrees_with_trainer),
    ("where the signal sits", where_the_signal_sits),
)
"""The checks of ``--engines``."""
