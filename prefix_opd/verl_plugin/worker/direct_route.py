"""Ask the only server directly.

verl asks a load-balancer actor for a server before each request, and tells it after: two actor calls a request. With
one replica the answer is always the same.
"""

from __future__ import annotations

from typing import Any


class DirectRoute:
    """Takes the place of a client's ``_acquire_server`` and ``_release_server``; idle with several replicas."""

    def __init__(self, client: Any):
        self._acquire, self._release, self._balancer = (
            client._acquire_server,
            client._release_server,
            client._load_balancer,
        )
        self._only: tuple[str, Any] | None = None
        self._several: bool | None = None
        client._acquire_server, client._release_server = self.acquire, self.release

    async def acquire(self, request_id: str, **extra: Any) -> tuple[str, Any]:
        if self._only is not None:
            return self._only
        if self._several is None:
            self._several = len(await self._balancer.get_all_servers.remote()) > 1
        server = await self._acquire(request_id, **extra)
        if not self._several:
            self._only = server
        return server

    def release(self, server_id: str, request_id: str | None = None) -> None:
        if self._several:
            self._release(server_id, request_id=request_id)
