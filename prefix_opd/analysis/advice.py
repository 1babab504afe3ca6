"""Which L for a pair: the signal by position in full rollouts of the untrained student, and what schedules keep of it.

One probe, nothing is trained: the student answers some training prompts without a cap, the teacher scores the answers
and answers the prompts, too. A trained student's answers are about as long as the teacher's, so those lengths count in
the costs.

The signal is the sum of |reverse KL|. A schedule keeps the part of it that lies before L, and costs a share of full
OPD's FLOP. The advised schedule has the largest ratio of the two shares; full OPD's ratio is 1. Source: ours. On both
miniatures and on SmolLM2 the ratio names the best schedule of the comparison (docs/schedules.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.analysis.continuation import check_models, engine_of, sampling_of
from prefix_opd.analysis.signal import Bin
from prefix_opd.base.errors import UserError
from prefix_opd.base.loopback import stay_on_loopback
from prefix_opd.checks.case import Case
from prefix_opd.config.keys import LOSS_MODE_KEY, STUDENT_KEY, TEACHER_KEY
from prefix_opd.config.settings import Settings
from prefix_opd.cost.arithmetic import ResponseLengths
from prefix_opd.cost.plan import plan
from prefix_opd.cost.record import Assumptions
from prefix_opd.method.schedule import Schedule, prefix_lengths, survival
from prefix_opd.method.seeds import answer_seed

ENOUGH = 0.3
"""Share of full OPD's FLOP with which ``auto`` had at least full OPD's accuracy on both miniatures: mean of three
seeds."""
INCREMENT_KEY = "prefix_opd.schedule.increment"
UNIFORM = {"prefix_opd.weighting.name": "uniform"}
OF_FULL_OPD = UNIFORM | {"prefix_opd.schedule.maximum": "null", "prefix_opd.flop_budget": "null"}
"""Settings that full OPD needs beside its schedule."""
TOPK = [
    f"{LOSS_MODE_KEY}=reverse_kl_topk",
    "distillation.distillation_loss.topk=16",
    "prefix_opd.probe.every=0",
]
AUTO = ["prefix_opd.schedule.name=auto", *TOPK]


@dataclass(frozen=True)
class Course:
    """A course of L, planned for the run's number of updates."""

    overrides: list[str]
    """The line to copy."""
    flops: float
    """Exact FLOP."""
    hours: float
    signal: float
    """Share of the signal that it trains on (`kept`)."""


@dataclass(frozen=True)
class Advice:
    """The profile of the signal, and the courses of L."""

    bins: list[Bin]
    shares: list[float]
    """Of each bin: the share of the sum of |reverse KL| up to its end."""
    responses: int
    mean_response: float
    """Mean length of the untrained student's answers, tokens."""
    mean_answer: float
    """Mean length of the teacher's."""
    increment: int
    courses: dict[str, Course]
    """``auto`` and ``topk_full``, full OPD over the teacher's top 16, if the run's other settings allow them;
    ``linear``: L grows from 1 to the teacher's mean answer at the last update; ``full`` OPD."""
    advised: str
    """The course with the most signal a FLOP."""
    refused: str
    """Why the run's settings do not allow the top 16, or nothing."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def profile(log_p: Sequence[Sequence[float]], log_q: Sequence[Sequence[float]], width: int) -> list[Bin]:
    """The bins, of ``width`` positions each, of (B,) lists of T log-probs of the sampled tokens under student and
    teacher, nats."""
    gaps: dict[int, list[float]] = {}
    for ours, theirs in zip(log_p, log_q, strict=True):
        for position, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            gaps.setdefault(position // width * width, []).append(p - q)
    return [Bin(first, len(gap), sum(gap) / len(gap), sum(map(abs, gap)) / len(gap)) for first, gap in gaps.items()]


def shares_of(bins: Sequence[Bin]) -> list[float]:
    """The share of the sum of |reverse KL| up to the end of each bin; 1 everywhere without a signal."""
    sizes = [one.tokens * one.abs_mean for one in bins]
    total = sum(sizes)
    return [sum(sizes[: i + 1]) / total if total else 1.0 for i in range(len(sizes))]


def kept(schedule: Schedule, updates: int, of: int, longest: int, bins: Sequence[Bin], width: int) -> float:
    """The share of the signal that a run trains on: 1 for full OPD.

    An update keeps the share of the sum of |reverse KL| that lies before its L.

    Args:
        schedule: one that does not adapt.
        updates: of the run.
        of: updates of full OPD.
        longest: maximum response length, tokens.
        bins: of ``width`` positions each.
    """
    reached = [0.0] * longest  # sum over updates of P(L >= t)
    for step in range(1, updates + 1):
        drawn = survival(schedule, step, longest)
        for t, share in enumerate(drawn or [1.0] * prefix_lengths(schedule, step, 1, longest)[0]):
            reached[t] += share
    trained = total = 0.0
    for one in bins:
        size, positions = one.tokens * one.abs_mean, reached[one.first : one.first + width]
        total += size
        trained += size * sum(positions) / len(positions)
    return (trained / total if total else updates) / of


def advised_increment(answer: float, updates: int) -> int:
    """The increment with which the linear schedule comes from 1 to ``answer`` tokens at the last update, at least 1."""
    return max(1, math.ceil((answer - 1) / max(1, updates - 1)))


def advise(config: DictConfig, prompts: int, seed: int, prepared: Callable[[list[str]], DictConfig]) -> Advice:
    """Probe with one response to each of ``prompts`` training prompts, and advise. The courses are checked first.

    Args:
        config: prepared as for training (`prefix_opd.launch.prepare`).
        prepared: the same run with more overrides.

    Raises:
        UserError: the run has other models or rollouts than an analysis (`continuation.check_models`), its settings do
            not allow full OPD or the linear schedule, or no prompt is short enough.
    """
    check_models(config)
    case = Case.open(config, sample=prompts)
    longest, room = int(config.data.max_response_length), int(config.data.max_prompt_length)
    pairs = [pair for pair in zip(case.prompts, case.teacher_prompts, strict=True) if len(pair[0]) <= room]
    if not pairs:
        raise UserError(f"data.max_prompt_length={room}", f"none of {prompts} training prompts fits", "raise it")
    updates, refused = int(config.trainer.total_training_steps), ""
    linear = [*_set(config, UNIFORM), *(f"prefix_opd.schedule.{one}" for one in ("name=linear", "start=1"))]
    most = advised_increment(longest, updates)  # no answer is longer
    full = ["prefix_opd.schedule.name=full", *_set(config, OF_FULL_OPD)]
    lines = {"auto": AUTO, "linear": [*linear, f"{INCREMENT_KEY}={most}"], "topk_full": [*full, *TOPK], "full": full}
    runs = {name: prepared(lines[name]) for name in ("linear", "full")}
    try:
        runs |= {name: prepared(lines[name]) for name in ("auto", "topk_full")}
    except UserError as error:
        refused = str(error)
    runs = {name: runs[name] for name in lines if name in runs}
    sampled, log_q, answers = _probe(config, case, pairs, longest, seed)
    width = -(-longest // case.settings.position_bins)
    bins = profile([log_p for _, log_p in sampled], log_q, width)
    mean_answer = sum(answers) / len(answers)
    increment = advised_increment(mean_answer, updates)
    lines["linear"] = [*linear, f"{INCREMENT_KEY}={increment}"]
    OmegaConf.update(runs["linear"], INCREMENT_KEY, increment)
    mean_prompt = sum(len(prompt) for prompt, _ in pairs) / len(pairs)
    responses = ResponseLengths(tuple((float(length), 1 / len(answers)) for length in answers))
    costs = {name: plan(run, Assumptions(mean_prompt, responses=responses)).cost for name, run in runs.items()}
    courses = {
        name: Course(
            lines[name],
            one.flop["exact"].total,
            one.hours["total"],
            kept(Settings.from_node(runs[name].prefix_opd).schedule, one.updates, updates, longest, bins, width),
        )
        for name, one in costs.items()
    }
    return Advice(
        bins=bins,
        shares=shares_of(bins),
        responses=len(sampled),
        mean_response=sum(len(tokens) for tokens, _ in sampled) / len(sampled),
        mean_answer=mean_answer,
        increment=increment,
        courses=courses,
        advised=max(courses, key=lambda name: courses[name].signal / courses[name].flops),
        refused=refused,
    )


def _set(config: DictConfig, settings: dict[str, str]) -> list[str]:
    """Overrides for the settings that are not so in the config."""
    held = {key: OmegaConf.select(config, key) for key in settings}
    return [f"{key}={value}" for key, value in settings.items() if held[key] not in (None, value)]


def _probe(
    config: DictConfig, case: Case, pairs: list[tuple[list[int], list[int]]], longest: int, seed: int
) -> tuple[list[tuple[list[int], list[float]]], list[list[float]], list[int]]:
    """(B,) sampled tokens with the student's log-probs, their log-probs under the teacher, and the lengths of the
    teacher's own answers, tokens. ``pairs``: the prompts of both."""
    from prefix_opd.verl_plugin.server.offline_engine import OfflineEngine

    stay_on_loopback(config)
    trusted = dict(trust_remote_code=case.student.trust_remote_code)
    sampling = sampling_of(config, config.actor_rollout_ref.rollout) | {"max_tokens": longest}
    ours, theirs = ([pair[i] for pair in pairs] for i in (0, 1))
    seeds = [answer_seed(seed, "advise", i) for i in range(len(pairs))]
    with OfflineEngine(case.student.path, **trusted, **engine_of(config, STUDENT_KEY)) as student:
        sampled = student.sample(ours, seeds, **sampling)
    engine = engine_of(config, TEACHER_KEY)
    engine["max_model_len"] = max(map(len, theirs)) + longest + 1
    with OfflineEngine(case.teacher.path, **trusted, **engine) as teacher:
        answers = [len(tokens) for tokens, _ in teacher.sample(theirs, seeds, **sampling)]
        return sampled, teacher.score(theirs, [tokens for tokens, _ in sampled]), answers
