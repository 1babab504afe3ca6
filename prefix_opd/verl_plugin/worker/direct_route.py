"""Ask the only server directly.

verl asks a load-balancer actor for a server before each request, and tells it after: two actor calls a request. With
one replica the answer is always the same. With several, the calls stay verl's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_ONLY, _SEVERAL = "prefix_opd_only_server", "prefix_opd_several_servers"


def asked_once(verls_own: Callable) -> Callable:
    """``LLMServerClient._acquire_server`` that remembers the only server."""

    @functools.wraps(verls_own)
    async def _acquire_server(self, request_id: str, **extra: Any) -> tuple[str, Any]:
        known = vars(self)
        if _ONLY in known:
            return known[_ONLY]
        if _SEVERAL not in known:
            known[_SEVERAL] = len(await self._load_balancer.get_all_servers.remote()) > 1
        server = await verls_own(self, request_id, **extra)
        if not known[_SEVERAL]:
            known[_ONLY] = server
        return server

    return _acquire_server


def told_if_several(verls_own: Callable) -> Callable:
    """``LLMServerClient._release_server`` that tells the balancer where there is a choice."""

    @functools.wraps(verls_own)
    def _release_server(self, server_id: str, request_id: str | None = None) -> None:
        if vars(self).get(_SEVERAL):
            verls_own(self, server_id, request_id=request_id)

    return _release_server
