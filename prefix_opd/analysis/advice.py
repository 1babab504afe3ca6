"""Which L for a pair: the signal by position in full rollouts of the untrained student, and a schedule that follows it.

One probe, nothing is trained: the student answers some training prompts without a cap, the teacher scores the answers.
The advised schedule is the paper's, L = 1, 1 + increment, …, with the increment that brings L to `REACH` of the signal
at the last update. The other schedules of docs/schedules.md have not been compared yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.analysis.continuation import engine_of
from prefix_opd.analysis.signal import Bin
from prefix_opd.base.errors import UserError
from prefix_opd.base.loopback import stay_on_loopback
from prefix_opd.checks.case import Case
from prefix_opd.checks.services import check_one_turn
from prefix_opd.config.keys import STUDENT_KEY, TEACHER_KEY
from prefix_opd.config.teachers import check_one_teacher
from prefix_opd.cost.arithmetic import ResponseLengths
from prefix_opd.cost.plan import plan
from prefix_opd.cost.record import Assumptions
from prefix_opd.method.seeds import answer_seed

REACH = 0.95
"""Share of the sum of |reverse KL| over all tokens that the last L covers."""


@dataclass(frozen=True)
class Advice:
    """The profile of the signal, and the schedule that follows from it."""

    bins: list[Bin]
    shares: list[float]
    """Of each bin: the share of the sum of |reverse KL| up to its end."""
    reach: int
    """End of the first bin with a share of at least `REACH`, tokens."""
    covered: float
    """`REACH`."""
    increment: int
    overrides: list[str]
    """The line to copy."""
    responses: int
    mean_response: float
    flops: dict[str, float]
    """Exact FLOP of the advised run (``advised``) and of full OPD (``full``)."""
    hours: dict[str, float]

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


def advised_increment(reach: int, updates: int) -> int:
    """The increment with which the linear schedule comes from 1 to ``reach`` tokens at the last update, at least 1."""
    return max(1, math.ceil((reach - 1) / max(1, updates - 1)))


def advise(config: DictConfig, prompts: int, seed: int) -> Advice:
    """Probe with one response to each of ``prompts`` training prompts, and advise.

    Args:
        config: prepared as for training (`prefix_opd.launch.prepare`).

    Raises:
        UserError: the teacher answers at a URL, there are several, a rollout has several turns, or no prompt is short
            enough.
    """
    check_one_teacher(config)
    check_one_turn(config)
    case = Case.open(config, sample=prompts)
    if case.settings.teacher.urls:
        rule = "names a teacher elsewhere, and advise starts it here"
        raise UserError(f"prefix_opd.teacher.url={case.settings.teacher.url}", rule, "set it to null")
    longest, room = int(config.data.max_response_length), int(config.data.max_prompt_length)
    pairs = [pair for pair in zip(case.prompts, case.teacher_prompts, strict=True) if len(pair[0]) <= room]
    if not pairs:
        raise UserError(f"data.max_prompt_length={room}", f"none of {prompts} training prompts fits", "raise it")
    sampled, log_q = _probe(config, case, pairs, longest, seed)
    width = -(-longest // case.settings.position_bins)
    bins = profile([log_p for _, log_p in sampled], log_q, width)
    shares, lengths = shares_of(bins), [len(tokens) for tokens, _ in sampled]
    ends = (one.first + width for one, share in zip(bins, shares, strict=True) if share >= REACH - 1e-9)
    reach = min(next(ends), longest)
    increment = advised_increment(reach, int(config.trainer.total_training_steps))
    schedule = {"name": "linear", "start": 1, "increment": increment}
    OmegaConf.update(config, "prefix_opd.schedule", schedule)
    mean_prompt = sum(len(prompt) for prompt, _ in pairs) / len(pairs)
    responses = ResponseLengths(tuple((float(length), 1 / len(lengths)) for length in lengths))
    cost = plan(config, Assumptions(mean_prompt, responses=responses))
    runs = {"advised": cost.cost, "full": cost.full_opd}
    return Advice(
        bins=bins,
        shares=shares,
        reach=reach,
        covered=REACH,
        increment=increment,
        overrides=[f"prefix_opd.schedule.{name}={value}" for name, value in schedule.items()],
        responses=len(lengths),
        mean_response=sum(lengths) / len(lengths),
        flops={name: one.flop["exact"].total for name, one in runs.items()},
        hours={name: one.hours["total"] for name, one in runs.items()},
    )


def _probe(
    config: DictConfig, case: Case, pairs: list[tuple[list[int], list[int]]], longest: int, seed: int
) -> tuple[list[tuple[list[int], list[float]]], list[list[float]]]:
    """(B,) sampled tokens with the student's log-probs, and (B,) log-probs of the teacher, for prompts of both."""
    from prefix_opd.verl_plugin.server.offline_engine import OfflineEngine

    stay_on_loopback(config)
    trusted = dict(trust_remote_code=case.student.trust_remote_code)
    with OfflineEngine(case.student.path, **trusted, **engine_of(config, STUDENT_KEY)) as student:
        sampled = student.sample(
            [asked for asked, _ in pairs],
            max_tokens=longest,
            temperature=1.0,
            seed=answer_seed(seed, "advise", 0),
            stop_token_ids=case.stop_ids,
            ignore_eos=bool(config.prefix_opd.ignore_own_end_token),
        )
    theirs, engine = [prompt for _, prompt in pairs], engine_of(config, TEACHER_KEY)
    engine["max_model_len"] = max(map(len, theirs)) + longest + 1
    with OfflineEngine(case.teacher.path, **trusted, **engine) as teacher:
        return sampled, teacher.score(theirs, [tokens for tokens, _ in sampled])
