"""Resolvers of the recipe. A function here is one: ``${context:PROMPT,RESPONSE}`` calls `context`."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from prefix_opd.method.prompt import THINK_START


def context(prompt: Any, response: Any) -> int | None:
    """Tokens that an engine needs for one sequence: prompt, response, and the token that a teacher generates when it
    scores them (verl asks with ``max_tokens=1``). None for a value that is not a length; preflight rejects that value.
    """
    return prompt + response + 1 if isinstance(prompt, int) and isinstance(response, int) else None


def response_room(response: Any, tools: Any) -> Any:
    """Tokens after the prompt: the longest response, and the tool outputs between its turns."""
    return response + tools if isinstance(response, int) and isinstance(tools, int) else response


def ending(thinking: Any) -> str | None:
    """The default of ``prefix_opd.prompt.ending``: only ``thinking=forced`` puts a text at the prompt's end."""
    return THINK_START if thinking == "forced" else None


def teacher_pool(placement: Any, trainers: Any) -> Any:
    """The teacher's nodes or GPUs per node by default. A layout with GPUs for the teacher alone gives their number."""
    return trainers if placement == "shared" else 1


def engine_share(placement: Any, alone: Any) -> Any:
    """An engine's share of a GPU; null on shared ones: it then follows from `prefix_opd.cost.memory`."""
    return None if placement == "shared" else alone


def register_resolver() -> None:
    for resolver in (context, response_room, ending, teacher_pool, engine_share):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
