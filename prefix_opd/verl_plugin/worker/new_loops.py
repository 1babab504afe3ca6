"""Create agent loops without copying their arguments.

verl creates one agent loop per rollout with ``hydra.utils.instantiate``
(verl/experimental/agent_loop/agent_loop.py:683), which copies and resolves the arguments. That takes 2 ms on an idle
core, in the one event loop of the worker.
"""

from __future__ import annotations

from functools import cache
from typing import Any


class QuickHydra:
    """Replaces ``hydra`` in verl's agent-loop module. Only ``utils.instantiate`` differs."""

    def __init__(self, hydra: Any):
        self._hydra = hydra
        self.utils = _QuickUtils(hydra.utils)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hydra, name)


class _QuickUtils:
    def __init__(self, utils: Any):
        self._utils = utils
        self._class = cache(utils.get_class)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._utils, name)

    def instantiate(self, config: Any, **arguments: Any) -> Any:
        """Call the class of a config with ``_target_`` only. Hydra handles all other configs."""
        if set(config) == {"_target_"}:
            return self._class(config["_target_"])(**arguments)
        return self._utils.instantiate(config, **arguments)
