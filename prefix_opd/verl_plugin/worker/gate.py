"""The gate between the rollouts of an agent-loop worker and the teacher, where phases take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Gate:
    """Rollouts wait here for the teacher's turn. Prompts that are handed out close the gate; the trainer opens it."""

    def __init__(self):
        self._sampling: dict[str, set[int]] = {}
        self._sampled = asyncio.Event()
        self._sampled.set()
        self._opened = asyncio.Event()

    def hand_out(self, prompts: Iterable[tuple[str, int]]) -> None:
        """Close the gate for new prompts: (uid, number of rollouts)."""
        self._sampling.update({uid: set(range(rollouts)) for uid, rollouts in prompts})
        self._opened.clear()
        self._check()

    async def wait(self, uid: str, rollout: int) -> None:
        """Called by a sampled rollout: wait for the teacher's turn."""
        self.left(uid, rollout)
        await self._opened.wait()

    def left(self, uid: str, rollout: int) -> None:
        """A rollout is sampled, or has failed."""
        self._sampling.get(uid, set()).discard(rollout)
        self._check()

    def ended(self, uid: str) -> None:
        """All rollouts of a prompt are over."""
        self._sampling.pop(uid, None)
        self._check()

    def _check(self) -> None:
        if any(self._sampling.values()):
            self._sampled.clear()
        else:
            self._sampled.set()

    async def sampled(self) -> None:
        """Wait until no rollout is being sampled."""
        await self._sampled.wait()

    def open(self) -> None:
        """Begin the teacher's turn."""
        self._opened.set()
