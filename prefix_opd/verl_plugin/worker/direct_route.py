"""Requests go directly to the only server.

verl calls a load-balancer actor before and after each request. With one replica the answer is always the same, so both
calls are skipped. With several replicas verl's calls remain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_ONLY, _SEVERAL = "prefix_opd_only_server", "prefix_opd_several_servers"


def asked_once(verls_own: Callable) -> Callable:
    """Wrap ``LLMServerClient._acquire_server``: remember the only server."""

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
    """Wrap ``LLMServerClient._release_server``: call the load balancer only if there are several servers."""

    @functools.wraps(verls_own)
    def _release_server(self, server_id: str, request_id: str | None = None) -> None:
        if vars(self).get(_SEVERAL):
            verls_own(self, server_id, request_id=request_id)

    return _release_server
