"""Which sequences go through the model together, where each is padded to the longest beside it.

Sequences of a mini-batch, longest first, are cut into groups of neighbours. A group costs its padded tokens (its number
of sequences times its longest) and a fixed overhead: what a pass takes however small it is, counted in padded tokens.
More groups mean less padding and more overhead. The gradient is a sum over sequences, whatever their groups.

Lengths 9, 8, 2, 1 in one group cost 36 + overhead, as (9, 8), (2, 1) they cost 18 + 4 + 2 * overhead.

Where the rollouts of a prompt share its computation (`method.shared_prompts`), prompts with their rollouts are
cut in the same way, and a group's prompts and its responses are padded apart from each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FURTHER = 7
"""How many groups beyond the fewest are looked at: at the overheads of real passes more of them do not pay."""

KEYS = 1 / 8
"""What a prompt's token costs for each further rollout, tokens: attention holds its keys and values once for each."""


class Splits:
    """What each group of neighbours would cost.

    Args:
        order: the items, as they stand side by side.
        tokens: [i, j] the padded tokens of the items at places i to j - 1 as one group; it grows with j.
        overhead: of a group, padded tokens.
        budget: padded tokens that a group may have.
    """

    def __init__(self, order: Sequence[int], tokens: np.ndarray, overhead: float, budget: float):
        self._order = order
        places = np.arange(len(order))
        later = np.arange(len(order) + 1)[None, :] > places[:, None]
        self._price = np.where(later & (tokens <= budget), tokens + overhead, np.inf)

    @classmethod
    def padded(cls, lengths: Sequence[int], overhead: float, budget: int) -> Splits:
        """``lengths``: of all sequences, tokens."""
        longest_first = np.asarray(lengths)
        order = np.argsort(-longest_first, kind="stable")
        sizes = np.arange(len(order) + 1)[None, :] - np.arange(len(order))[:, None]
        return cls(order.tolist(), longest_first[order][:, None] * sizes, overhead, budget)

    @classmethod
    def shared(cls, families: Sequence[Family], overhead: float, budget: int) -> Splits:
        """``families``: whose prompts and rollouts stay together."""
        order = sorted(range(len(families)), key=lambda i: -families[i].longest)
        prompts, longest, rollouts = (
            np.array([getattr(families[i], name) for i in order]) for name in ("prompt", "longest", "size")
        )
        tokens = np.zeros((len(order), len(order) + 1))
        for i in range(len(order)):
            count = np.arange(1, len(order) - i + 1)
            widest = np.maximum.accumulate(prompts[i:])
            tokens[i, i + 1 :] = _shared_tokens(count, widest, rollouts[i:].cumsum(), longest[i])
        return cls(order, tokens, overhead, budget)

    def fewest(self) -> int:
        """How many groups the budget asks for. An item over the budget counts as a group."""
        groups = start = 0
        while start < len(self._order):
            within = np.isfinite(self._price[start]).nonzero()[0]
            groups, start = groups + 1, int(within[-1]) if len(within) else start + 1
        return groups

    def cheapest(self, most: int) -> CheapestSplits:
        """The cheapest split into each number of groups up to ``most``."""
        return CheapestSplits(self._order, self._price, most)


class CheapestSplits:
    """The cheapest split into each number of groups, by dynamic programming over the items in their order."""

    def __init__(self, order: Sequence[int], price: np.ndarray, most: int):
        self._order = order
        cheapest = np.full(len(order) + 1, np.inf)  # [j]: the first j, in as many groups as the loop has come to
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
        """The cheapest split into ``number`` groups: the items of each, the group of the longest first."""
        found, end = [], len(self._order)
        for starts in reversed(self._starts[:number]):
            found.append(sorted(self._order[starts[end] : end]))
            end = starts[end]
        return found[::-1]


def cheapest_number(costs: Sequence[float]) -> int | None:
    """The number of groups with the lowest of ``costs`` (for 1, 2, ...), the smallest such; none if there is none."""
    lowest = min(costs)
    return None if np.isinf(lowest) else costs.index(lowest) + 1


@dataclass(frozen=True)
class Family:
    """Rollouts of one prompt."""

    rows: tuple[int, ...]
    """Which they are."""
    prompt: int
    """Length of the prompt, tokens."""
    longest: int
    """The longest response, tokens."""

    @property
    def size(self) -> int:
        return len(self.rows)


def families(owners: Sequence[int], prompts: Sequence[int], responses: Sequence[int], budget: int) -> list[Family]:
    """The rollouts of each prompt, in several families where they do not fit into one group.

    Args:
        owners: of each rollout, the number of its prompt.
        prompts: of each rollout, the length of its prompt, tokens.
        responses: of each rollout, its length, tokens.
        budget: padded tokens that a group may have.
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


def _shared_tokens(prompts, prompt, rollouts, longest):
    """Padded tokens of so many prompts and rollouts together; one rollout of each prompt is one padded sequence."""
    return prompts * prompt + rollouts * longest + (rollouts - prompts) * prompt * KEYS
