"""ADWIN (arXiv 2605.28396): L from how well the prefix aligns with the full rollout, by probes.

As published, short prefixes are trained, and delayed probes of full length measure how well the update of the prefix
aligns with that of the full rollout. The next L follows from the alignment, and staleness is controlled. Chosen here,
where the text at hand gives no formula: the alignment is the cosine of the token advantages before L and of all. It is
the cosine of the two gradients if those of the tokens are orthogonal. L is the shortest with an alignment of at least
``alignment``. From ``stale`` updates after the last probe on, L grows by ``increment`` after each update.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from prefix_opd.base.fields import Tokens
from prefix_opd.method import names
from prefix_opd.method.contenders.budget import bin_ends, value_at
from prefix_opd.method.contenders.growth import Adaptive
from prefix_opd.method.schedule import SCHEDULES, Need


@SCHEDULES.register("adwin")
class Adwin(Adaptive):
    """The shortest L whose advantages align with those of the full rollout, by probes (arXiv 2605.28396)."""

    increment: Tokens = 256
    """Growth of L after each update without a recent probe, tokens."""
    alignment: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Least cosine of the advantages before L and of the full rollout."""
    stale: Tokens = 20
    """Number of updates after which a probe's L is out of date and L grows until the next probe."""
    _age: int = 0

    def needs(self) -> set[Need]:
        return {"probe", "scores"}

    def profile(self, metrics: Mapping[str, float]) -> dict[int, float]:
        """L -> its alignment, shortest L first; empty without a probe."""
        magnitudes, tokens = (names.bins(metrics, prefix) for prefix in names.by_position("probe")[1:])
        squares = names.bins(metrics, names.PROBE_SQUARES)  # missing in earlier versions
        return alignments(squares or {first: value**2 for first, value in magnitudes.items()}, tokens)

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


def alignments(squares: Mapping[int, float], tokens: Mapping[int, float]) -> dict[int, float]:
    """End of a bin -> cosine of the advantages before it and of all.

    Args:
        squares: first position of a bin -> mean square of the advantage of a token, nats^2.
        tokens: first position -> number of tokens.
    """
    sums = {first: tokens[first] * squares.get(first, 0.0) for first in tokens}  # a mean that is not finite is absent
    total = sum(sums.values())
    so_far, found = 0.0, {}
    for first, end in bin_ends(tokens).items():
        so_far += sums[first]
        found[end] = math.sqrt(so_far / total) if total else 1.0
    return found
