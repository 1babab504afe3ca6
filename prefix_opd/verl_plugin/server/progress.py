"""A page of the vLLM server: seconds since its engine generated a token.

The page uses HTTP, because waiting rollouts can use up Ray's limit of concurrent calls to the server's actor.
"""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

from prefix_opd.base.patching import around

PATH = "/prefix_opd/seconds_since_token"
ANSWER_SECONDS = 30.0
"""Long, because a server with many rollouts in its event loop may answer late."""

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Ignores http_proxy of the environment: a proxy cannot reach the engines' addresses."""

_last_token = time.monotonic()
"""Time of the last token of this process's engine; before the first token, the time of import."""


@around
def timed(vllms_own, self, engine_core_outputs, *args, **kwargs) -> Any:
    """``OutputProcessor.process_outputs`` that records the time of each engine step that generated a token.

    An aborted request has no new token. The single token of a scoring request counts.
    """
    global _last_token
    if any(output.new_token_ids for output in engine_core_outputs):
        _last_token = time.monotonic()
    return vllms_own(self, engine_core_outputs, *args, **kwargs)


@around
def answering(vllms_own, *args, **kwargs) -> Any:
    """``build_app`` of vLLM's server, with the page `PATH`."""
    app = vllms_own(*args, **kwargs)

    async def seconds_since_token() -> float:
        return time.monotonic() - _last_token

    app.add_api_route(PATH, seconds_since_token, methods=["GET"])
    return app


def ask(address: str) -> float:
    """Seconds since the server at ``host:port`` generated a token; infinite without an answer or without the page.

    Blocks for at most `ANSWER_SECONDS`.
    """
    try:
        with DIRECT.open(f"http://{address}{PATH}", timeout=ANSWER_SECONDS) as answer:
            return float(json.load(answer))
    except (OSError, ValueError):
        return float("inf")
