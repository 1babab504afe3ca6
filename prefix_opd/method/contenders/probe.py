"""L from the profile of the last full-length probe: `ByBudget` (ours) and `Adwin` (arXiv 2605.28396).

`ByBudget`: a rollout of prompt P that is cut at L removes at most the sum of its reverse KL before L. It costs
P + min(T, L) tokens in each phase, because sampling, scoring and update all process prompt and response once. So the
FLOP per token cancel, and the best L maximises (sum of reverse KL before L) / (P + tokens before L). Attention, which
grows with the square of the length, is left out. As the early positions are learnt, the best L moves on.

`Adwin`, published: short prefixes are trained, delayed probes of full length measure the alignment of the update of the
prefix with that of the full rollout, the next L follows, and staleness is controlled. Chosen here, where the text at
hand gives no formula: the alignment is the cosine of the token advantages before L and of all, which is the cosine of
the two gradients if those of the tokens are orthogonal; L is the shortest with an alignment of at least ``alignment``;
from ``stale`` updates after the last probe on, L grows by ``increment`` after each update.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from prefix_opd.base.fields import Tokens
from prefix_opd.method import names
from prefix_opd.method.contenders.growth import Adaptive
from prefix_opd.method.schedule import SCHEDULES, Need

NO_BOUND = 2**31
"""End of the only bin of a profile, tokens: its width is unknown, and no rollout of the probe is longer."""


@SCHEDULES.register("budget")
class ByBudget(Adaptive):
    """L with the most reverse KL a FLOP, from the profile of the last probe; ``start`` before the first."""

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


@SCHEDULES.register("adwin")
class Adwin(Adaptive):
    """The shortest L whose advantages align with those of the full rollout, by probes (arXiv 2605.28396)."""

    increment: Tokens = 256
    """Growth of L after each update, tokens."""
    alignment: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Least cosine of the advantages before L and of the full rollout."""
    stale: Tokens = 20
    """Number of updates after which a probe's L is out of date and L grows until the next probe."""
    _age: int = 0

    def needs(self) -> set[Need]:
        return {"probe", "scores"}

    def profile(self, metrics: Mapping[str, float]) -> dict[int, float]:
        """L -> its alignment, shortest L first; empty without a probe."""
        return alignments(*(names.bins(metrics, prefix) for prefix in names.by_position("probe")[1:]))

    def signal_of(self, metrics: Mapping[str, float]) -> tuple[float, float | None] | None:
        """Alignment of the L of this update."""
        found = self.profile(metrics)
        return (value_at(found, metrics[names.PREFIX_LENGTH]), self.alignment) if found else None

    def observe(self, metrics: Mapping[str, float]) -> None:
        found = self.profile(metrics)
        self._age = 0 if found else self._age + 1
        if found:
            self._length = min((end for end, cosine in found.items() if cosine >= self.alignment), default=max(found))
        elif self._age >= self.stale:
            self._length = self.length + self.increment


def removed_by_token(reverse_kl: Mapping[int, float], tokens: Mapping[int, float], prompt: float) -> dict[int, float]:
    """End of a bin -> (sum of reverse KL up to it) / (tokens up to it, prompts included), nats.

    Args:
        reverse_kl: first position of a bin -> mean of log p_student - log p_teacher of a token, nats.
        tokens: first position -> number of tokens.
        prompt: tokens of the prompts of all rollouts.
    """
    removed, cost, found = 0.0, prompt, {}
    for first, end in bin_ends(tokens).items():
        removed += reverse_kl[first] * tokens[first]
        cost += tokens[first]
        found[end] = removed / cost
    return found


def alignments(magnitudes: Mapping[int, float], tokens: Mapping[int, float]) -> dict[int, float]:
    """End of a bin -> cosine of the advantages before it and of all.

    Args:
        magnitudes: first position of a bin -> mean |advantage| of a token, nats.
        tokens: first position -> number of tokens.
    """
    total = sum(tokens[first] * magnitudes[first] ** 2 for first in tokens)
    so_far, found = 0.0, {}
    for first, end in bin_ends(tokens).items():
        so_far += tokens[first] * magnitudes[first] ** 2
        found[end] = math.sqrt(so_far / total) if total else 1.0
    return found


def bin_ends(tokens: Mapping[int, float]) -> dict[int, int]:
    """First position of a bin -> position after its last one, in order. All bins have one width."""
    firsts = sorted(tokens)
    width = min((later - first for first, later in itertools.pairwise(firsts)), default=NO_BOUND)
    return {first: first + width for first in firsts}


def value_at(profile: dict[int, float], length: float) -> float:
    """The value of the longest L up to a length; of the shortest, if all are longer."""
    return next((value for end, value in reversed(profile.items()) if end <= length), next(iter(profile.values())))
