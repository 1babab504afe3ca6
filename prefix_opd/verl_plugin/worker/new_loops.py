"""Make an agent loop without a walk through its arguments.

verl makes one for each rollout by ``hydra.utils.instantiate`` (verl/experimental/agent_loop/agent_loop.py:683), which
copies and resolves what it is given: 2 ms of an idle core, in the one event loop that all rollouts of a worker share.
"""

from __future__ import annotations

from functools import cache
from typing import Any


class QuickHydra:
    """``hydra`` as verl's agent-loop module sees it: all of it but ``utils.instantiate``."""

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
        """Call the class of a config that names nothing else; any other config goes to Hydra."""
        if set(config) == {"_target_"}:
            return self._class(config["_target_"])(**arguments)
        return self._utils.instantiate(config, **arguments)
