"""Split a mini-batch into micro-batches that waste little padding.

A micro-batch (a group) pads its sequences to its longest one. Sequences are sorted by length, longest first, and cut
into groups of neighbours. A group costs its padded tokens (number of sequences times longest length) plus a fixed
overhead per pass, counted in padded tokens. More groups mean less padding and more overhead. The gradient is a sum over
sequences, so it does not depend on the groups.

Lengths 9, 8, 2, 1 in one group cost 36 + overhead; (9, 8), (2, 1) cost 18 + 4 + 2 * overhead.

With shared prompts (`method.shared_prompts`) the items are prompts with their rollouts. A group then pads its prompts
and its responses separately.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FURTHER = 7
"""Largest number of groups to try beyond the minimum. At real overheads more groups do not pay."""

KEYS = 1 / 8
"""Cost of a shared prompt token for each further rollout, tokens: attention copies its keys and values per rollout."""


class Splits:
    """The splits of sorted items into groups of neighbours.

    Args:
        order: the items, sorted.
        tokens: [i, j] padded tokens of a group of the items at places i to j - 1; grows with j.
        overhead: cost of a pass, padded tokens.
        budget: most padded tokens of a group.
    """

    def __init__(self, order: Sequence[int], tokens: np.ndarray, overhead: float, budget: float):
        self._order = order
        places = np.arange(len(order))
        later = np.arange(len(order) + 1)[None, :] > places[:, None]
        self._price = np.where(later & (tokens <= budget), tokens + overhead, np.inf)

    @classmethod
    def padded(cls, lengths: Sequence[int], overhead: float, budget: int) -> Splits:
        """Groups of padded sequences. ``lengths``: (B,) tokens."""
        longest_first = np.asarray(lengths)
        order = np.argsort(-longest_first, kind="stable")
        sizes = np.arange(len(order) + 1)[None, :] - np.arange(len(order))[:, None]
        return cls(order.tolist(), longest_first[order][:, None] * sizes, overhead, budget)

    @classmethod
    def shared(cls, families: Sequence[Family], overhead: float, budget: int) -> Splits:
        """Groups of prompts that share their computation. A family is never split."""
        order = sorted(range(len(families)), key=lambda i: -families[i].longest)
        sizes = [(families[i].prompt, families[i].longest, len(families[i].rows)) for i in order]
        prompts, longest, rollouts = np.array(sizes).T
        tokens = np.zeros((len(order), len(order) + 1))
        for i in range(len(order)):
            groups_prompts, groups_rollouts = np.arange(1, len(order) - i + 1), rollouts[i:].cumsum()
            # a prompt's first rollout pays the whole prompt, each further one `KEYS` of it
            shares = groups_prompts + (groups_rollouts - groups_prompts) * KEYS
            tokens[i, i + 1 :] = np.maximum.accumulate(prompts[i:]) * shares + groups_rollouts * longest[i]
        return cls(order, tokens, overhead, budget)

    def fewest(self) -> int:
        """The smallest number of groups within the budget. An item over the budget counts as a group."""
        groups = start = 0
        while start < len(self._order):
            within = np.isfinite(self._price[start]).nonzero()[0]
            groups, start = groups + 1, int(within[-1]) if len(within) else start + 1
        return groups

    def cheapest(self, most: int) -> list[float]:
        """Costs of the cheapest splits into 1, 2, … ``most`` groups, by dynamic programming over the sorted items.

        Returns:
            (most,) padded tokens with overhead; infinite if impossible.
        """
        cheapest = np.full(len(self._order) + 1, np.inf)  # [j]: cost of the first j items
        cheapest[0] = 0.0
        costs = []
        self._starts = []  # [number of groups - 1][j]: first item of the last group
        for _ in range(most):
            total = cheapest[:-1, None] + self._price
            self._starts.append(total.argmin(axis=0))
            cheapest = total.min(axis=0)
            costs.append(float(cheapest[-1]))
        return costs

    def groups(self, number: int) -> list[list[int]]:
        """The items of each group in the cheapest split into ``number`` groups, longest first; after `cheapest`."""
        found, end = [], len(self._order)
        for starts in reversed(self._starts[:number]):
            found.append(sorted(self._order[starts[end] : end]))
            end = starts[end]
        return found[::-1]


def cheapest_number(costs: Sequence[float]) -> int | None:
    """The number of groups with the lowest cost, the smallest on a tie; None if all ``costs`` are infinite."""
    lowest = min(costs)
    return None if np.isinf(lowest) else costs.index(lowest) + 1


@dataclass(frozen=True)
class Family:
    """Rollouts of one prompt."""

    rows: tuple[int, ...]
    """Row numbers of the rollouts."""
    prompt: int
    """Prompt length, tokens."""
    longest: int
    """Longest response, tokens."""


def families(owners: Sequence[int], prompts: Sequence[int], responses: Sequence[int], budget: int) -> list[Family]:
    """One family per prompt, or several where its rollouts exceed the budget of a group.

    Args:
        owners: (B,) prompt number of each rollout.
        prompts: (B,) prompt lengths, tokens.
        responses: (B,) response lengths, tokens.
        budget: most padded tokens of a group.
    """
    rows_of = defaultdict(list)
    for row in sorted(range(len(owners)), key=lambda row: -responses[row]):
        rows_of[owners[row]].append(row)
    found = []
    for rows in rows_of.values():
        while rows:
            prompt, longest = prompts[rows[0]], responses[rows[0]]
            room = int((budget - prompt * (1 - KEYS)) // (longest + prompt * KEYS))
            part, rows = rows[: max(1, room)], rows[max(1, room) :]
            found.append(Family(tuple(part), prompt, longest))
    return found
