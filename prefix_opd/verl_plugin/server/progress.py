"""A vLLM server answers how long ago its engine generated a token.

vLLM counts tokens in its Prometheus page only with ``disable_log_stats=false``, which costs time in each step of the
engine and which verl switches off. A request over HTTP is answered also while Ray's limit of concurrent calls of the
server's actor is reached by waiting rollouts.
"""

from __future__ import annotations

import functools
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

PATH = "/prefix_opd/seconds_since_token"
ANSWER_SECONDS = 30.0
"""A server whose event loop is full of rollouts may answer late."""

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy that the environment names (http_proxy) knows nothing of the engines' addresses."""

_last_token = time.monotonic()
"""When the engine of this process last generated a token; its start before the first."""


def timed(verls_own: Callable) -> Callable:
    """``OutputProcessor.process_outputs`` that notes the time of each step of the engine that generated a token.

    An aborted request has no new token. The only token of a request that scores a prompt counts.
    """

    @functools.wraps(verls_own)
    def process_outputs(self, engine_core_outputs, *args, **kwargs):
        global _last_token
        if any(output.new_token_ids for output in engine_core_outputs):
            _last_token = time.monotonic()
        return verls_own(self, engine_core_outputs, *args, **kwargs)

    return process_outputs


def answering(verls_own: Callable) -> Callable:
    """``build_app`` of vLLM's server with the page `PATH`."""

    @functools.wraps(verls_own)
    def build_app(*args, **kwargs) -> Any:
        app = verls_own(*args, **kwargs)

        async def seconds_since_token() -> float:
            return time.monotonic() - _last_token

        app.add_api_route(PATH, seconds_since_token, methods=["GET"])
        return app

    return build_app


def ask(address: str) -> float:
    """Seconds since the server at ``host:port`` generated a token; infinite if it does not answer or has no such page.

    Blocks for at most `ANSWER_SECONDS`.
    """
    try:
        with DIRECT.open(f"http://{address}{PATH}", timeout=ANSWER_SECONDS) as answer:
            return float(json.load(answer))
    except (OSError, ValueError):
        return float("inf")
