"""The watchers of every step, as pure functions of one batch.

``before_update`` checks rollouts and scores while the batch can still be discarded, ``after_update`` the metrics of the
update. `prefix_opd.verl_plugin.trainer.step_guard` acts on the alarms of `judge`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prefix_opd.config.watchers import EveryRollout, LateWatcher, Watcher, WatcherSettings
from prefix_opd.verl_plugin.fields import TrainBatch

SHORTEST_JUDGED = 8
"""Minimum tokens to call a teacher's answer uniform. In shorter answers (L = 1) equal log-probs occur by chance."""
ALIKE = 1e-6
"""Standard deviation, nats, below which log-probs count as equal: the rounding of fp32."""
CERTAIN = -1e-3
"""Mean log-prob, nats. Above it equal log-probs mean that the teacher is sure of every token."""
NEAR_CHANCE = 0.05
"""Tolerance for a mean log-prob of -log V and a standard deviation of 0, as a fraction of log V."""
LONGEST_CYCLE = 8
"""Length of the longest cycle that counts as repetition, tokens."""
REPEATED_TOKENS = 32
"""Number of last tokens that must repeat the cycle."""
READ = ("validation_missing",)
"""Watchers whose values are known also where they are off: the best checkpoint and schedules read them."""


Watched = dict[str, tuple[float, str]]
"""Watcher -> (value, message: the problem, the rollout, and the fix)."""


@dataclass(frozen=True)
class Alarm:
    """A watched value past its threshold."""

    watcher: str
    action: str
    told: str


def missing_rollouts(came: int, expected: int, reasons: Sequence[str]) -> Watched:
    """Whether every rollout of a step came back. verl would train on the rest."""
    reason = f" ({reasons[0]})" if reasons else ""
    told = f"{came} of {expected} rollouts came back whole and scored{reason}; see the log for the others"
    return {"missing": (float(expected - came), told)}


def before_update(batch: TrainBatch, names: Sequence[str], advantage: Tensor, vocabulary: int, longest: int) -> Watched:
    """A batch before the update.

    Args:
        batch: B rollouts with N response tokens in total.
        names: (B,) names of the rollouts in messages, e.g. "prompt 3, rollout 1".
        advantage: (N,)
        vocabulary: V, the size of the teacher's vocabulary.
        longest: ``data.max_response_length``, tokens.
    """
    endings = [record["ending"] for record in batch.records]
    broken = _not_finite(batch, advantage)
    first_broken = _first(names, [bool(part.any()) for part in broken.split(batch.lengths)])
    cycles = [ends_in_a_cycle(tokens) for tokens in _sampled(batch, batch.tokens)]
    cycle = f"{{}} end in a cycle of at most {LONGEST_CYCLE} tokens"
    watched = {
        "not_finite": (
            float(broken.sum()),
            f"{int(broken.sum())} tokens have no finite log-prob or advantage, the first in {first_broken}; "
            "look at that prompt, and at the engines' dtype",
        ),
        "repetition": _share(names, cycles, cycle, "shorten prefix_opd.schedule, or lower the learning rate"),
    }
    if batch.log_q is not None:
        watched["uniform_teacher"] = _uniform_teacher(batch, names, batch.log_q, vocabulary)
        watched["reverse_kl"] = _reverse_kl(batch, names, batch.mask & ~broken)
    elif batch.topk is not None:
        watched["uniform_teacher"] = _uniform_teacher(batch, names, batch.topk, vocabulary)
    full = "{} ended because tool outputs exceeded prefix_opd.rollout.tool_tokens"
    fix = "raise it, or shorten the outputs"
    watched["tool_output"] = _share(names, [ending == "tools" for ending in endings], full, fix)
    whole = [length >= longest for length in batch.prefix_lengths]
    if any(whole):  # rollouts with a shorter L are cut by design
        cut = [one and ending == "cut" for one, ending in zip(whole, endings, strict=True)]
        share = sum(cut) / sum(whole)
        watched["endless"] = (
            share,
            f"{share:.0%} of the rollouts ran into data.max_response_length={longest}, the first of them "
            f"{_first(names, cut)}; check prefix_opd.rollout.stop, or raise the length",
        )
    return watched


def after_update(metrics: Mapping[str, float]) -> Watched:
    """The metrics of an update (verl's names)."""
    watched = {}
    numbers = {name: float(metrics[name]) for name in ("actor/loss", "actor/grad_norm") if name in metrics}
    broken = {name: number for name, number in numbers.items() if not math.isfinite(number)}
    named = ", ".join(f"{name}={number}" for name, number in broken.items())
    watched["not_finite_update"] = (
        float(len(broken)),
        f"{named} after the update, so the update is unreliable; lower actor_rollout_ref.actor.optim.lr, or "
        "set prefix_opd.loss.max_ratio",
    )
    if "actor/grad_norm" in numbers:
        norm = numbers["actor/grad_norm"]
        watched["gradient_norm"] = (norm, f"the gradient norm is {norm:.3g}; lower actor_rollout_ref.actor.optim.lr")
    if "prefix_opd/log_prob_diff/abs_mean" in metrics:
        gap = float(metrics["prefix_opd/log_prob_diff/abs_mean"])
        # the workers report the worst token without its rollout
        worst = metrics.get("prefix_opd/log_prob_diff/abs_max")
        most = "" if worst is None else f" (the worst by {float(worst):.3g})"
        watched["sampler_mismatch"] = (
            gap,
            f"trainer and sampler differ by {gap:.3g} nats a token{most}; compare their dtypes, and model.vocab_size "
            "with the tokenizer's",
        )
    return watched


def validation(came: int, expected: int, reasons: Sequence[str], natural_ends: Sequence[float | None]) -> Watched:
    """The responses of a validation.

    Args:
        came, expected: number of responses.
        reasons: one line per known failure.
        natural_ends: for each response 1 if it ended by itself, else 0; None if it was not graded.
    """
    reason = f" ({reasons[0]})" if reasons else ""
    watched = {
        "validation_missing": (
            float(expected - came),
            f"{came} of {expected} validation answers came back{reason}: the accuracy is that of those only and "
            "is not used for the best checkpoint; see the log for the others",
        )
    }
    if known := [end for end in natural_ends if end is not None]:
        endless = 1 - sum(known) / len(known)
        watched["validation_endless"] = (
            endless,
            f"{endless:.0%} of the {len(known)} validation answers do not end by themselves; the student does not "
            "learn to end beyond L: raise L sooner (prefix_opd.schedule), or check prefix_opd.rollout.stop",
        )
    return watched


def judge(watched: Watched, settings: WatcherSettings) -> tuple[dict[str, float], list[Alarm]]:
    """The values of the watchers that are on and of `READ`, and one `Alarm` per value past its threshold."""
    values, alarms = {}, []
    for name, (value, told) in watched.items():
        watcher: Watcher | LateWatcher | EveryRollout = getattr(settings, name)
        if watcher.action == "off" and name not in READ:
            continue
        values[name] = value
        # written so that NaN is past every threshold
        if watcher.action != "off" and not value <= watcher.threshold:
            rule = f"prefix_opd.watchers.{name}: threshold {watcher.threshold:g}"
            alarms.append(Alarm(name, watcher.action, f"{told} ({rule})"))
    return values, alarms


def _not_finite(batch: TrainBatch, advantage: Tensor) -> Tensor:
    """(N,) bool, student tokens with a non-finite log-prob or advantage."""
    fields = [batch.log_p, advantage] + ([] if batch.log_q is None else [batch.log_q])
    if batch.topk is not None:
        fields.append(batch.topk.sum(-1))  # finite only if all k are
    return ~torch.stack([field.isfinite() for field in fields]).all(0) & batch.mask


def _first(names: Sequence[str], chosen: Sequence[bool]) -> str:
    return next(itertools.compress(names, chosen), "none")


def _share(names: Sequence[str], chosen: Sequence[bool], what: str, fix: str) -> tuple[float, str]:
    """The share of chosen rollouts, and a message with the first of them; ``{}`` in ``what`` is their number."""
    number = what.format(f"{sum(chosen)} of {len(chosen)} rollouts")
    return sum(chosen) / len(chosen), f"{number}, the first of them {_first(names, chosen)}; {fix}"


def _sampled(batch: TrainBatch, field: Tensor) -> list[Tensor]:
    """The values of the student's tokens in a field (N, ...), one tensor per rollout."""
    parts = zip(field.split(batch.lengths), batch.mask.split(batch.lengths), strict=True)
    return [values[mask] for values, mask in parts]


def _reverse_kl(batch: TrainBatch, names: Sequence[str], sound: Tensor) -> tuple[float, str]:
    """Mean |log p - log q| over all tokens, and a message with the worst rollout. ``sound``: (N,) tokens that count."""
    gap = (batch.log_p - batch.log_q).abs()
    mean = gap[sound].mean().item() if sound.any() else 0.0
    parts = zip(gap.split(batch.lengths), sound.split(batch.lengths), strict=True)
    means = [part[counts].mean().item() if counts.any() else 0.0 for part, counts in parts]
    worst = max(range(len(means)), key=means.__getitem__)
    told = (
        f"student and teacher differ by {mean:.3g} nats a token, most in {names[worst]} ({means[worst]:.3g}); "
        "check that they share tokenizer and chat template, and lower actor_rollout_ref.actor.optim.lr if it grew"
    )
    return mean, told


def _uniform_teacher(batch: TrainBatch, names: Sequence[str], log_q: Tensor, vocabulary: int) -> tuple[float, str]:
    """``log_q``: (N,) of the sampled tokens, or (N, k) of the top-k, whose values differ for an informed teacher."""
    uniform = [is_uniform(scores.flatten(), vocabulary) for scores in _sampled(batch, log_q)]
    fix = "check that its server holds the right weights"
    return _share(names, uniform, "the teacher scored {} with uninformative log-probs", fix)


def is_uniform(log_q: Tensor, vocabulary: int) -> bool:
    """Whether a teacher's log-probs of one rollout carry no information.

    Args:
        log_q: (T,) log-probs, nats.
        vocabulary: V.

    Returns:
        True if all log-probs are equal (and not near 0, as for a teacher that is sure of every token), or all are near
        -log V. False for fewer than ``SHORTEST_JUDGED`` tokens.
    """
    if len(log_q) < SHORTEST_JUDGED or not log_q.isfinite().all():
        return False
    spread, mean, chance = log_q.std().item(), log_q.mean().item(), math.log(vocabulary)
    all_alike = spread < ALIKE and mean < CERTAIN
    near_chance = abs(mean + chance) < NEAR_CHANCE * chance and spread < NEAR_CHANCE * chance
    return all_alike or near_chance


def ends_in_a_cycle(tokens: Tensor) -> bool:
    """Whether the last ``REPEATED_TOKENS`` of a (T,) response have a period of at most ``LONGEST_CYCLE``."""
    last = tokens[-REPEATED_TOKENS:]
    if len(last) < REPEATED_TOKENS:
        return False
    return any(bool(torch.equal(last[period:], last[:-period])) for period in range(1, LONGEST_CYCLE + 1))
