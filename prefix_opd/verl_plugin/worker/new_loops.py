"""Create agent loops without copying their arguments.

verl creates one agent loop per rollout with ``hydra.utils.instantiate``
(verl/experimental/agent_loop/agent_loop.py:683), which copies and resolves the arguments. That takes 2 ms on an idle
core, in the one event loop of the worker.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any


def quick_hydra(hydra: Any) -> SimpleNamespace:
    """Replaces ``hydra`` in verl's agent-loop module, which uses ``hydra.utils.instantiate`` only."""
    find_class = cache(hydra.utils.get_class)

    def instantiate(config: Any, **arguments: Any) -> Any:
        """Call the class of a config with ``_target_`` only. Hydra handles all other configs."""
        if set(config) == {"_target_"}:
            return find_class(config["_target_"])(**arguments)
        return hydra.utils.instantiate(config, **arguments)

    return SimpleNamespace(utils=SimpleNamespace(instantiate=instantiate))
