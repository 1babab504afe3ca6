"""Answers of a run as a report shows them: sampled ones token by token, validation answers before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefix_opd.run.history import History, read_answers
from prefix_opd.run.samples import Sample

ANSWERS = 3
FULL_STRENGTH = 4.0
"""|reverse KL| in nats at which a token's background has its full colour."""


@dataclass(frozen=True)
class Token:
    """One token of a sample, ready to be coloured."""

    text: str
    kl: float
    log_p: float
    log_q: float

    @property
    def strength(self) -> float:
        """-1 (the teacher is far surer) to 1 (the student is)."""
        return max(-1.0, min(1.0, self.kl / FULL_STRENGTH))


@dataclass(frozen=True)
class ScoredAnswer:
    """One rollout, split where the cap stands."""

    title: str
    """When it was sampled."""
    cap: int
    how_it_ended: str
    reaches_cap: bool
    before_cap: list[Token]
    after_cap: list[Token]


@dataclass(frozen=True)
class ScoredPrompt:
    """One prompt with its answer at the first and at the last probe, or with one answer alone."""

    prompt: str
    answers: list[ScoredAnswer]


@dataclass(frozen=True)
class AnswerPair:
    """One validation problem, at the first and at the last evaluation."""

    question: str
    truth: str
    before: str
    before_right: bool
    after: str
    after_right: bool


def scored(samples: Sequence[Sample]) -> list[ScoredPrompt]:
    """The same prompts at the first and at the last probe; without two probes, answers of the first and the last step.

    A probe's answers where there are any, for no cap ends them.
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
    cap = sample.prefix_length
    return ScoredAnswer(
        title=f"Before update {sample.step}" if sample.kind == "probe" else f"Step {sample.step}",
        cap=cap,
        how_it_ended=_how_it_ended(sample),
        reaches_cap=len(tokens) > cap or sample.ending == "cut",
        before_cap=tokens[:cap],
        after_cap=tokens[cap:],
    )


def _how_it_ended(sample: Sample) -> str:
    if sample.ending == "natural":
        return "ended by itself"
    if sample.ending == "cut":  # no L applies to a probe
        return "cut at the longest response" if len(sample.tokens) > sample.prefix_length else "cut at L"
    return "ended by the engine"


def answer_pairs(history: History) -> list[AnswerPair]:
    """The same validation problems before and after; a change from wrong to right first, then what is left."""
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
    # one of each kind, so that the choice does not flatter the run
    kinds = {(pair.before_right, pair.after_right): pair for pair in reversed(pairs)}
    order = [(False, True), (False, False), (True, True), (True, False)]
    return [kinds[kind] for kind in order if kind in kinds]
