"""``${context:PROMPT,RESPONSE}`` in a config: tokens that an engine needs for one sequence."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf


def context(prompt: Any, response: Any) -> int | None:
    """Prompt, response and the one token that a teacher generates when it scores them (verl asks with
    ``max_tokens=1``). Student and teacher use the same value.

    Returns None (the model's own context) for a value that is not a length; preflight rejects that value.
    """
    if not isinstance(prompt, int) or not isinstance(response, int):
        return None
    return prompt + response + 1


def register_resolver() -> None:
    """Register ``${context:...}`` with OmegaConf."""
    OmegaConf.register_new_resolver("context", context, replace=True)
