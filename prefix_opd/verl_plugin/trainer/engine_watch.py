"""Watch others while the trainer waits: end the run if an engine dies or hangs; call periodically for rollouts.

verl's call runs in a thread, and the main thread polls the engines' health page.
"""

from __future__ import annotations

import math
import threading
import time
import urllib.error
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from prefix_opd.base.errors import RunStopped
from prefix_opd.base.patching import around
from prefix_opd.verl_plugin.server.progress import DIRECT

Result = TypeVar("Result")

_CALLS = "prefix_opd_while_waiting"
ASK_SECONDS = 5.0
ANSWER_SECONDS = 5.0
"""A late answer counts as alive: the engine may be busy. A dead engine refuses the connection at once."""


def while_alive(call: Callable[[], Result], replicas: Sequence[Any], what: str, seconds: float = math.inf) -> Result:
    """Return ``call()``. Raise RunStopped if one of verl's replicas is dead, or the call takes longer than ``seconds``.

    ``what`` names the call in the message.
    """
    done: Future[Result] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # raised again in the waiting thread
            done.set_exception(error)

    # a daemon: a call that hangs does not keep the process alive
    threading.Thread(target=work, daemon=True, name=what).start()
    deadline = time.monotonic() + seconds
    while not wait([done], min(ASK_SECONDS, seconds)).done:
        if time.monotonic() > deadline:
            raise RunStopped(f"{what} took longer than {seconds:g} s (prefix_opd.rollout.timeout_seconds)")
        # server_address: host:port
        if dead := next((one.server_address for one in replicas if is_dead(one.server_address)), None):
            raise RunStopped(f"{what}: the engine at {dead} has died; see its last messages in the log above")
    return done.result()


@around
def watched(verls_own, self, *args, **kwargs) -> None:
    """``CheckpointEngineManager.update_weights``. Raises RunStopped when one of its engines is dead or hangs.

    The trainer sets ``limit_seconds`` of the manager.
    """
    seconds = getattr(self, "limit_seconds", math.inf)
    return while_alive(lambda: verls_own(self, *args, **kwargs), self.replicas, "sending weights", seconds)


def is_dead(address: str) -> bool:
    """Whether the server reports a dead engine (vLLM: status 503) or refuses the connection."""
    try:
        DIRECT.open(f"http://{address}/health", timeout=ANSWER_SECONDS).close()
        return False
    except urllib.error.HTTPError as error:
        return error.code == 503
    except OSError as error:
        return isinstance(getattr(error, "reason", None), ConnectionRefusedError)


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
