"""Short ways around calls that verl's agent-loop worker makes for each rollout (`prefix_opd.verl_plugin.patches`)."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from prefix_opd.base.patching import around

_SERVER = "prefix_opd_only_server"
"""Attribute of a client: what its load balancer answers; None if it has several servers."""


def quick_hydra(hydra: Any) -> SimpleNamespace:
    """Replaces ``hydra`` in verl's agent-loop module, which uses ``hydra.utils.instantiate`` only."""
    find_class = cache(hydra.utils.get_class)

    def instantiate(config: Any, **arguments: Any) -> Any:
        """Call the class of a config with ``_target_`` only. Hydra handles all other configs."""
        if set(config) == {"_target_"}:
            return find_class(config["_target_"])(**arguments)
        return hydra.utils.instantiate(config, **arguments)

    return SimpleNamespace(utils=SimpleNamespace(instantiate=instantiate))


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
