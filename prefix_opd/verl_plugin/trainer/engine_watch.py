"""End the run if an engine dies or hangs while it receives weights.

verl's trainer would hang: a worker offers the weights through a socket, and a dead engine never reads from it. Here
verl's call runs in a thread, and the main thread polls the engines' health page.
"""

from __future__ import annotations

import functools
import math
import threading
import time
import urllib.error
from collections.abc import Callable, Sequence
from typing import Any

from prefix_opd.base.errors import RunStopped
from prefix_opd.verl_plugin.server.progress import DIRECT

ASK_SECONDS = 5.0
ANSWER_SECONDS = 5.0
"""A late answer counts as alive: the engine may be busy. A dead engine refuses the connection at once."""


def while_alive(
    call: Callable[..., Any], addresses: Callable[[], Sequence[str]], what: str, seconds: float = math.inf
) -> Callable[..., Any]:
    """Wrap ``call``: raise RunStopped when one of the engines is dead, or the call takes longer than ``seconds``.

    Args:
        addresses: returns ``host:port`` of the engines' servers.
        what: description of the call, for the message.
    """

    def called(*args, **kwargs):
        result: dict[str, Any] = {}

        def work() -> None:
            try:
                result["value"] = call(*args, **kwargs)
            except BaseException as error:  # raised again in the waiting thread
                result["error"] = error

        thread = threading.Thread(target=work, daemon=True, name=what)
        thread.start()
        deadline = time.monotonic() + seconds
        while thread.is_alive():
            thread.join(min(ASK_SECONDS, seconds))
            if thread.is_alive() and time.monotonic() > deadline:
                raise RunStopped(f"{what} took longer than {seconds:g} s (prefix_opd.rollout.timeout_seconds)")
            if thread.is_alive() and (dead := [address for address in addresses() if is_dead(address)]):
                raise RunStopped(f"{what}: the engine at {dead[0]} has died; the log above has its last words")
        if "error" in result:
            raise result["error"]
        return result["value"]

    return called


def watched(verls_own: Callable) -> Callable:
    """Wrap ``CheckpointEngineManager.update_weights``: raise RunStopped when one of its engines is dead or hangs.

    The trainer sets ``limit_seconds`` of the manager.
    """

    @functools.wraps(verls_own)
    def update_weights(self, *args, **kwargs):
        def addresses() -> list[str]:
            return [replica.server_address for replica in self.replicas]

        seconds = getattr(self, "limit_seconds", math.inf)
        return while_alive(functools.partial(verls_own, self), addresses, "sending weights", seconds)(*args, **kwargs)

    return update_weights


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
