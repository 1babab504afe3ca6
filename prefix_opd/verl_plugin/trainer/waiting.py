"""Periodic calls while verl's replay buffer waits for rollouts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prefix_opd.base.patching import around

_CALLS = "prefix_opd_while_waiting"


def while_waiting(buffer: Any, seconds: float, call: Callable[[str], None]) -> None:
    """Call ``call(partition)`` about every ``seconds`` while ``buffer`` waits."""
    called = time.monotonic()

    def in_turn(partition_id: str) -> None:
        nonlocal called
        if time.monotonic() - called > seconds:
            called = time.monotonic()
            call(partition_id)

    vars(buffer).setdefault(_CALLS, []).append(in_turn)


@around
def attentive(verls_own, self, partition_id, last_debug_time):
    """``ReplayBuffer._wait_for_next_poll`` after the calls of `while_waiting`."""
    for call in vars(self).get(_CALLS, ()):
        call(partition_id)
    return verls_own(self, partition_id, last_debug_time)
