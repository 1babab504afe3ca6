"""Requests go directly to the only server.

verl calls a load-balancer actor before and after each request. With one replica the answer is always the same, so both
calls are skipped. With several replicas verl's calls remain.
"""

from __future__ import annotations

from typing import Any

from prefix_opd.base.patching import around

_SERVER = "prefix_opd_only_server"
"""Attribute of a client: what its load balancer answers; None if it has several servers."""


@around
async def asked_once(verls_own, self, request_id: str, **extra: Any) -> tuple[str, Any]:
    """``LLMServerClient._acquire_server`` that remembers the only server."""
    known = vars(self)
    if _SERVER not in known:
        several = len(await self._load_balancer.get_all_servers.remote()) > 1
        known[_SERVER] = None if several else await verls_own(self, request_id, **extra)
    return known[_SERVER] or await verls_own(self, request_id, **extra)


@around
def told_if_several(verls_own, self, server_id: str, request_id: str | None = None) -> None:
    """``LLMServerClient._release_server`` that calls the load balancer only if there are several servers."""
    if vars(self).get(_SERVER, ()) is None:
        verls_own(self, server_id, request_id=request_id)
