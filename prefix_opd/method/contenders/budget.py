"""L with the most reverse KL per FLOP, from the profile of the last full-length probe. Source: ours.

A rollout of prompt P that is cut at L removes at most the sum of its reverse KL before L. It costs P + min(T, L) tokens
in each phase, because sampling, scoring and update all process prompt and response once. So the FLOP per token cancel,
and the best L maximises (sum of reverse KL before L) / (P + tokens before L). Attention, which grows with the square of
the length, is left out. As the early positions are learnt, the best L moves on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from prefix_opd.method import names
from prefix_opd.method.contenders.growth import Adaptive
from prefix_opd.method.schedule import SCHEDULES, Need

NO_BOUND = 2**31
"""End of the only bin of a profile, tokens: its width is unknown, and no rollout of the probe is longer."""


@SCHEDULES.register("budget")
class ByBudget(Adaptive):
    """L with the most reverse KL per FLOP, from the profile of the last probe; ``start`` before the first."""

    def needs(self) -> set[Need]:
        return {"probe", "scores"}

    def profile(self, metrics: Mapping[str, float]) -> dict[int, float]:
        """L -> reverse KL removed per token, shortest L first; empty without a probe."""
        means, _, counts = (names.bins(metrics, prefix) for prefix in names.by_position("probe"))
        if not counts:
            return {}
        rollouts = sum(counts.values()) / metrics[names.PROBE_LENGTH]
        return removed_by_token(means, counts, rollouts * metrics[names.PROMPT_LENGTH])

    def signal_of(self, metrics: Mapping[str, float]) -> tuple[float, float | None] | None:
        """Reverse KL removed per token at the L of this update, and at the best L."""
        found = self.profile(metrics)
        return (value_at(found, metrics[names.PREFIX_LENGTH]), max(found.values())) if found else None

    def observe(self, metrics: Mapping[str, float]) -> None:
        found = self.profile(metrics)
        if found and max(found.values()) > 0:
            self._length = max(found, key=lambda length: found[length])


def removed_by_token(reverse_kl: Mapping[int, float], tokens: Mapping[int, float], prompt: float) -> dict[int, float]:
    """End of a bin -> (sum of reverse KL up to it) / (tokens up to it, prompts included), nats.

    Args:
        reverse_kl: first position of a bin -> mean of log p_student - log p_teacher of a token, nats.
        tokens: first position -> number of tokens.
        prompt: tokens of the prompts of all rollouts.
    """
    removed, cost, found = 0.0, prompt, {}
    for first, end in bin_ends(tokens).items():
        removed += reverse_kl.get(first, 0.0) * tokens[first]  # a mean that is not finite is absent
        cost += tokens[first]
        found[end] = removed / cost
    return found


def bin_ends(tokens: Mapping[int, float]) -> dict[int, int]:
    """First position of a bin -> position after its last one, in order. All bins have one width."""
    firsts = sorted(tokens)
    width = min((later - first for first, later in itertools.pairwise(firsts)), default=NO_BOUND)
    return {first: first + width for first in firsts}


def value_at(profile: dict[int, float], length: float) -> float:
    """The value of the longest L up to a length; of the shortest, if all are longer."""
    return next((value for end, value in reversed(profile.items()) if end <= length), next(iter(profile.values())))
