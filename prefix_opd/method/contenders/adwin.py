"""ADWIN: full-length probes audit whether the prefix points where the full rollout does (arXiv 2605.28396).

Published: short prefixes are trained, delayed probes of full length measure the alignment of the update of the prefix
with that of the full rollout, the next L follows, and staleness is controlled. Chosen here, where the text at hand
gives no formula: the alignment is the cosine of the token advantages before L and of all, which is the cosine of the
two gradients if those of the tokens are orthogonal; L is the shortest with an alignment of at least ``alignment``; L
grows by ``increment`` after each update from ``stale`` updates after the last probe on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from prefix_opd.base.fields import Tokens
from prefix_opd.method import names
from prefix_opd.method.contenders.budget import bin_ends
from prefix_opd.method.schedule import SCHEDULES, Growing, Need


def alignments(magnitudes: Mapping[int, float], tokens: Mapping[int, float]) -> dict[int, float]:
    """End of a bin -> cosine of the advantages before it and of all.

    Args:
        magnitudes: first position of a bin -> mean |advantage| of a token, nats.
        tokens: first position -> number of tokens.
    """
    ends, found, so_far = bin_ends(tokens), {}, 0.0
    total = sum(tokens[first] * magnitudes[first] ** 2 for first in tokens)
    for first in sorted(tokens):
        so_far += tokens[first] * magnitudes[first] ** 2
        found[ends[first]] = math.sqrt(so_far / total) if total else 1.0
    return found


@SCHEDULES.register("adwin")
class Adwin(Growing):
    """The shortest L whose advantages align with those of the full rollout, by probes (arXiv 2605.28396)."""

    increment: Tokens = 256
    """Growth of L after each update, tokens."""
    alignment: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Least cosine of the advantages before L and of the full rollout."""
    stale: Tokens = 20
    """Number of updates after which a probe's L is out of date and L grows until the next probe."""
    _length: int = 0
    _age: int = 0

    def needs(self) -> set[Need]:
        return {"probe", "scores"}

    def prefix_length(self, step: int, longest: int) -> float:
        return self._length or self.start

    def observe(self, metrics: Mapping[str, float]) -> None:
        _, magnitudes, counts = (names.bins(metrics, prefix) for prefix in names.by_position("probe"))
        self._age += 1
        if counts:
            found = alignments(magnitudes, counts)
            self._length = min((end for end, cosine in found.items() if cosine >= self.alignment), default=max(found))
            self._age = 0
        elif self._age >= self.stale:
            self._length = int(self.prefix_length(0, 0)) + self.increment
