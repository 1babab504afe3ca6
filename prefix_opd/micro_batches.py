"""Which sequences go through the model together, where each is padded to the longest beside it.

Sequences of a mini-batch, longest first, are cut into groups of neighbours. A group costs its padded tokens (its number
of sequences times its longest) and a fixed overhead: what a pass takes however small it is, counted in padded tokens.
More groups mean less padding and more overhead. The gradient is a sum over sequences, whatever their groups.

Lengths 9, 8, 2, 1 in one group cost 36 + overhead, as (9, 8), (2, 1) they cost 18 + 4 + 2 * overhead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FURTHER = 7
"""How many groups beyond the fewest are looked at: at the overheads of real passes more of them do not pay."""


def fewest_groups(lengths: Sequence[int], budget: int) -> int:
    """How many groups of at most ``budget`` padded tokens are needed. A sequence over the budget counts as a group."""
    groups = room = 0
    for length in sorted(lengths, reverse=True):
        if room == 0:  # the first of a group is its longest
            groups, room = groups + 1, max(1, budget // length)
        room -= 1
    return groups


class CheapestSplits:
    """The cheapest split into each number of groups, by dynamic programming over the sequences, longest first.

    Args:
        lengths: of all sequences, tokens.
        overhead: of a group, padded tokens.
        budget: padded tokens that a group may have.
        most: the largest number of groups.
    """

    def __init__(self, lengths: Sequence[int], overhead: float, budget: int, most: int):
        longest_first = np.asarray(lengths)
        self._order = np.argsort(-longest_first, kind="stable")
        longest_first = longest_first[self._order]
        count = len(longest_first)
        # [i, j]: sequences i to j - 1 as one group
        sizes = np.arange(count + 1)[None, :] - np.arange(count)[:, None]
        padded = longest_first[:, None] * sizes
        price = np.where((sizes > 0) & (padded <= budget), padded + overhead, np.inf)

        cheapest = np.full(count + 1, np.inf)  # [j]: the first j sequences, in as many groups as the loop has come to
        cheapest[0] = 0.0
        self._starts = []  # of the last group
        self.costs: list[float] = []
        """Padded tokens and overheads of the cheapest split into 1, 2, ... groups; infinite where there is none."""
        for _ in range(most):
            total = cheapest[:-1, None] + price
            self._starts.append(total.argmin(axis=0))
            cheapest = total.min(axis=0)
            self.costs.append(float(cheapest[-1]))

    def groups(self, number: int) -> list[list[int]]:
        """The cheapest split into ``number`` groups: indices into ``lengths``, the group of the longest first."""
        found, end = [], len(self._order)
        for starts in reversed(self._starts[:number]):
            found.append(sorted(self._order[starts[end] : end].tolist()))
            end = starts[end]
        return found[::-1]


def cheapest_number(costs: Sequence[float]) -> int | None:
    """The number of groups with the lowest of ``costs`` (for 1, 2, ...), the smallest such; none if there is none."""
    lowest = min(costs)
    return None if np.isinf(lowest) else costs.index(lowest) + 1
