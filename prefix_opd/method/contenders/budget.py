"""L that removes most reverse KL a FLOP, by the profile of the last probe.

A rollout of prompt P cut at L removes at most the sum of its reverse KL before L, and costs P + min(T, L) tokens in
each phase: sampling, scoring and update all process the prompt and the response once. So the FLOP per token cancel,
and the best L maximises (sum of reverse KL before L) / (P + tokens before L). Attention, which grows with the square
of the length, is left out. As the early positions are learnt, the best L moves on. Source: ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from prefix_opd.method import names
from prefix_opd.method.schedule import SCHEDULES, Growing, Need


def best_length(reverse_kl: Mapping[int, float], tokens: Mapping[int, float], prompt: float) -> int | None:
    """The end of the bin with the largest ratio. None where no ratio is above 0.

    Args:
        reverse_kl: first position of a bin -> mean of log p_student - log p_teacher of a token, nats.
        tokens: first position -> number of tokens.
        prompt: tokens of the prompts of all rollouts.
    """
    ends = bin_ends(tokens)
    removed, cost, best, ratio = 0.0, prompt, None, 0.0
    for first in sorted(tokens):
        removed += reverse_kl[first] * tokens[first]
        cost += tokens[first]
        if removed / cost > ratio:
            best, ratio = ends[first], removed / cost
    return best


def bin_ends(tokens: Mapping[int, float]) -> dict[int, int]:
    """First position of a bin -> position after its last one. Bins have the width of the first."""
    firsts = sorted(tokens)
    width = firsts[1] - firsts[0] if len(firsts) > 1 else 1
    return {first: first + width for first in firsts}


@SCHEDULES.register("budget")
class ByBudget(Growing):
    """L with the most reverse KL a FLOP, from the profile of the last probe; ``start`` before the first."""

    _length: int = 0

    def needs(self) -> set[Need]:
        return {"probe", "scores"}

    def prefix_length(self, step: int, longest: int) -> float:
        return self._length or self.start

    def observe(self, metrics: Mapping[str, float]) -> None:
        means, _, counts = (names.bins(metrics, prefix) for prefix in names.by_position("probe"))
        if counts:
            rollouts = sum(counts.values()) / metrics[names.PROBE_LENGTH]
            self._length = best_length(means, counts, rollouts * metrics[names.PROMPT_LENGTH]) or self._length
