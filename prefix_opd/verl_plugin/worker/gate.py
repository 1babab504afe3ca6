"""The gate between the rollouts of an agent-loop worker and the teacher, where phases take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Gate:
    """Rollouts wait here for the teacher's turn. Prompts that are handed out close the gate; the trainer opens it."""

    def __init__(self):
        self._sampling: dict[str, set[int]] = {}
        self.sampled = asyncio.Event()
        """Set while no rollout is being sampled."""
        self.sampled.set()
        self.opened = asyncio.Event()
        """Set in the teacher's turn."""

    def hand_out(self, prompts: Iterable[tuple[str, int]]) -> None:
        """Close the gate for new prompts: (uid, number of rollouts)."""
        self._sampling.update({uid: set(range(rollouts)) for uid, rollouts in prompts})
        self.opened.clear()
        self._check()

    async def wait(self, uid: str, rollout: int) -> None:
        """Called by a sampled rollout: wait for the teacher's turn."""
        self.left(uid, rollout)
        await self.opened.wait()

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
            self.sampled.clear()
        else:
            self.sampled.set()
