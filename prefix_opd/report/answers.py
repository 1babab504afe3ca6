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
    """One token of a sample."""

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
    """One rollout, split at L."""

    title: str
    """Time of sampling."""
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
    of_step = {step: [sample for sample in kept if sample.step == step] for step in (steps[:1] + steps[-1:])}
    if probed and len(of_step) > 1:
        first, last = of_step.values()
        later = {sample.prompt: sample for sample in reversed(last)}
        pairs = [(sample, later[sample.prompt]) for sample in first if sample.prompt in later]
        if pairs:
            return [ScoredPrompt(pair[0].prompt, [*map(_scored_answer, pair)]) for pair in pairs[:ANSWERS]]
    return [
        ScoredPrompt(sample.prompt, [_scored_answer(sample)])
        for ones in of_step.values()
        for sample in ones[: ANSWERS - 1]
    ]


def _scored_answer(sample: Sample) -> ScoredAnswer:
    tokens = [
        Token(text, log_p - log_q, log_p, log_q)
        for text, log_p, log_q in zip(sample.tokens, sample.log_p, sample.log_q, strict=True)
    ]
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
    first, last = (
        {line["input"]: line for line in read_answers(history.folder, one.step)}
        for one in (history.evaluations[0], history.evaluations[-1])
    )
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
