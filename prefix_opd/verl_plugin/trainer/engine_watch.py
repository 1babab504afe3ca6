"""An engine that dies while weights travel to it must end the run, not stop it for ever.

verl's trainer waits for its engines without end: a worker offers the weights through a socket from which a dead
process never reads. Here the wait goes on in a thread, and the engines' own health page is asked meanwhile.
"""

from __future__ import annotations

import functools
import threading
import urllib.error
from collections.abc import Callable, Sequence
from typing import Any

from prefix_opd.base.errors import RunStopped
from prefix_opd.verl_plugin.server.progress import DIRECT

ASK_SECONDS = 5.0
ANSWER_SECONDS = 5.0
"""An engine that is busy may answer late, which is no sign of death; one that is gone refuses at once."""


def while_alive(call: Callable[..., Any], addresses: Callable[[], Sequence[str]], what: str) -> Callable[..., Any]:
    """``call``, given up with RunStopped once one of the engines is dead.

    Args:
        addresses: of the engines' servers, ``host:port``.
        what: what the call does, for the message.
    """

    def called(*args, **kwargs):
        result: dict[str, Any] = {}

        def work() -> None:
            try:
                result["value"] = call(*args, **kwargs)
            except BaseException as error:  # handed to the thread that waits
                result["error"] = error

        thread = threading.Thread(target=work, daemon=True, name=what)
        thread.start()
        while thread.is_alive():
            thread.join(ASK_SECONDS)
            if thread.is_alive() and (dead := [address for address in addresses() if is_dead(address)]):
                raise RunStopped(f"{what}: the engine at {dead[0]} has died; the log above has its last words")
        if "error" in result:
            raise result["error"]
        return result["value"]

    return called


def watched(verls_own: Callable) -> Callable:
    """``CheckpointEngineManager.update_weights``, given up once one of its engines is dead."""

    @functools.wraps(verls_own)
    def update_weights(self, *args, **kwargs):
        def addresses() -> list[str]:
            return [replica.server_address for replica in self.replicas]

        return while_alive(functools.partial(verls_own, self), addresses, "sending weights")(*args, **kwargs)

    return update_weights


def is_dead(address: str) -> bool:
    """Whether the server says that its engine is dead (vllm: 503), or is not there any more."""
    try:
        DIRECT.open(f"http://{address}/health", timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.code == 503
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    except (TimeoutError, OSError):
        return False
    return False
