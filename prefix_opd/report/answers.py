"""A run's answers for the report: samples token by token, and validation answers before and after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefix_opd.run.history import History, read_answers
from prefix_opd.run.samples import Sample

ANSWERS = 3
FULL_STRENGTH = 4.0
"""|reverse KL| in nats at which a token's background has full colour."""


@dataclass(frozen=True)
class Token:
    text: str
    kl: float
    log_p: float
    log_q: float

    @property
    def strength(self) -> float:
        """Strength of the colour, from -1 (the teacher's probability is far higher) to 1 (the student's is)."""
        return max(-1.0, min(1.0, self.kl / FULL_STRENGTH))


@dataclass(frozen=True)
class ScoredAnswer:
    """One rollout, split at L. The title is the time of sampling."""

    title: str
    prefix_length: int
    how_it_ended: str
    reaches_l: bool
    before_l: list[Token]
    after_l: list[Token]


@dataclass(frozen=True)
class ScoredPrompt:
    """One prompt with its answers at the first and the last probe, or with one answer."""

    prompt: str
    answers: list[ScoredAnswer]


@dataclass(frozen=True)
class AnswerPair:
    """One validation problem at the first and the last evaluation."""

    question: str
    truth: str
    before: str
    before_right: bool
    after: str
    after_right: bool


def scored(samples: Sequence[Sample]) -> list[ScoredPrompt]:
    """Pairs of answers to the same prompts at the first and the last probe; else answers of the first and last step.

    A probe's answers are preferred because they are uncapped.
    """
    probed = [sample for sample in samples if sample.kind == "probe"]
    kept = probed or samples
    steps = sorted({sample.step for sample in kept})
    ends = [[one for one in kept if one.step == step] for step in dict.fromkeys([*steps[:1], *steps[-1:]])]
    groups = []
    if probed and len(ends) > 1:
        later = {sample.prompt: sample for sample in reversed(ends[1])}
        groups = [[one, later[one.prompt]] for one in ends[0] if one.prompt in later][:ANSWERS]
    groups = groups or [[one] for ones in ends for one in ones[: ANSWERS - 1]]
    return [ScoredPrompt(group[0].prompt, [*map(_scored_answer, group)]) for group in groups]


def _scored_answer(sample: Sample) -> ScoredAnswer:
    scores = zip(sample.tokens, sample.log_p, sample.log_q, strict=True)
    tokens = [Token(text, log_p - log_q, log_p, log_q) for text, log_p, log_q in scores]
    length = sample.prefix_length
    cut = "cut at the longest response" if len(tokens) > length else "cut at L"  # L does not apply to a probe
    return ScoredAnswer(
        title=f"Before update {sample.step}" if sample.kind == "probe" else f"Step {sample.step}",
        prefix_length=length,
        how_it_ended={"natural": "natural end", "cut": cut}.get(sample.ending, "ended by the engine"),
        reaches_l=len(tokens) > length or sample.ending == "cut",
        before_l=tokens[:length],
        after_l=tokens[length:],
    )


def answer_pairs(history: History) -> list[AnswerPair]:
    """Validation problems before and after training: one per combination of wrong and right."""
    if len(history.evaluations) < 2:
        return []
    ends = (history.evaluations[0].step, history.evaluations[-1].step)
    first, last = ({line["input"]: line for line in read_answers(history.folder, step)} for step in ends)
    pairs = [
        AnswerPair(
            question=question,
            truth=str(before.get("gts")),
            before=before["output"],
            before_right=before["score"] > 0.5,
            after=last[question]["output"],
            after_right=last[question]["score"] > 0.5,
        )
        for question, before in first.items()
        if question in last
    ]
    # the first problem of each kind, so that the choice is not biased in favour of the run
    kinds = {(pair.before_right, pair.after_right): pair for pair in reversed(pairs)}
    order = [(False, True), (False, False), (True, True), (True, False)]
    return [kinds[kind] for kind in order if kind in kinds]
