"""End the run if an engine dies or hangs while it receives weights.

verl's trainer would hang: a worker offers the weights through a socket, and a dead engine never reads from it. Here
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

ASK_SECONDS = 5.0
ANSWER_SECONDS = 5.0
"""A late answer counts as alive: the engine may be busy. A dead engine refuses the connection at once."""


def while_alive(
    call: Callable[[], Result], addresses: Callable[[], Sequence[str]], what: str, seconds: float = math.inf
) -> Result:
    """Return ``call()``. Raise RunStopped when one of the engines is dead, or the call takes longer than ``seconds``.

    Args:
        addresses: returns ``host:port`` of the engines' servers.
        what: description of the call, for the message.
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
        if dead := [address for address in addresses() if is_dead(address)]:
            raise RunStopped(f"{what}: the engine at {dead[0]} has died; the log above has its last words")
    return done.result()


@around
def watched(verls_own, self, *args, **kwargs) -> None:
    """``CheckpointEngineManager.update_weights``. Raises RunStopped when one of its engines is dead or hangs.

    The trainer sets ``limit_seconds`` of the manager.
    """
    seconds = getattr(self, "limit_seconds", math.inf)
    call, addresses = lambda: verls_own(self, *args, **kwargs), lambda: addresses_of(self.replicas)
    return while_alive(call, addresses, "sending weights", seconds)


def addresses_of(replicas: Sequence[Any]) -> list[str]:
    """``host:port`` of verl's replicas."""
    return [replica.server_address for replica in replicas]


def is_dead(address: str) -> bool:
    """Whether the server reports a dead engine (vLLM: status 503) or refuses the connection."""
    try:
        DIRECT.open(f"http://{address}/health", timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.code == 503
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    except (TimeoutError, OSError):
        return False
    return False
