"""``${context:PROMPT,RESPONSE}`` in a config: the tokens that an engine needs for one sequence."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf


def context(prompt: Any, response: Any) -> int | None:
    """Prompt, response and the one token that a teacher generates while it scores them (verl asks it with
    ``max_tokens=1``); both engines alike, as `prefix_opd.checks.preflight` wants it.

    None, the model's own context, for what is no length: preflight refuses that by its own name.
    """
    if not isinstance(prompt, int) or not isinstance(response, int):
        return None
    return prompt + response + 1


def register_resolver() -> None:
    """Make ``${context:...}`` known to OmegaConf."""
    OmegaConf.register_new_resolver("context", context, replace=True)
