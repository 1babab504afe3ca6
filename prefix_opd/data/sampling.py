"""Sampling without a generator: the problems with the smallest keyed hashes are the sample.

A hash of (seed, text) acts as a random number attached to the text. So the sample depends only on the seed and the set
of texts, and the order of files and rows and repeated questions do not matter. One pass with memory for the sample
suffices, and a sample of 100 is the beginning of a sample of 1 000.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

KEY_BYTES = 16
Value = TypeVar("Value")


def key_of(seed: int, *parts: str) -> int:
    """A number from 0 to 2**128 that depends only on the seed and on each part.

    Lengths go into the hash, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.blake2b(str(seed).encode(), digest_size=KEY_BYTES)
    for part in parts:
        data = part.encode()
        digest.update(b"\0%d\0" % len(data))
        digest.update(data)
    return int.from_bytes(digest.digest(), "big")


class SmallestKeys(Generic[Value]):
    """The ``count`` smallest distinct keys offered so far (None: all), each with a value."""

    def __init__(self, count: int | None):
        self.count = count
        self._values: dict[int, Value] = {}
        self._largest_first: list[int] = []

    def __contains__(self, key: int) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def would_hold(self, key: int) -> bool:
        """Whether a new key would be accepted. The bound only decreases, so a rejected key stays rejected."""
        return self.count is None or len(self._values) < self.count or key < -self._largest_first[0]

    def offer(self, key: int, make: Callable[[], Value]) -> None:
        """Accept a new key if it is small enough, and drop the largest one."""
        if key in self._values or not self.would_hold(key):
            return
        self._values[key] = make()
        heapq.heappush(self._largest_first, -key)
        if self.count is not None and len(self._values) > self.count:
            del self._values[-heapq.heappop(self._largest_first)]

    @property
    def bar(self) -> int:
        """The largest key held if the sample is full; otherwise a number above all keys."""
        full = self.count is not None and len(self._values) == self.count
        return -self._largest_first[0] if full else 1 << (8 * KEY_BYTES)

    def items(self) -> list[tuple[int, Value]]:
        """(key, value), smallest key first: a random order determined by the seed."""
        return sorted(self._values.items())

    def __getitem__(self, key: int) -> Value:
        return self._values[key]
