"""verl, Ray and vLLM on a machine without a GPU. Inactive unless ``VERL_PLATFORM=cpu`` is set.

What has to be supplied, each named with the line of verl 0.9.1 or vLLM 0.28 that forces it:

============== ==================================================================================
`environment`  the variables that a CPU run sets before verl is imported
`platform`     verl's platform "cpu": device module, gloo, no CUDA IPC
`patches`      two functions that verl offers no hook for
`engine`       the vLLM server, replica and worker extension that keep weights loadable
============== ==================================================================================
"""

from __future__ import annotations

import os


def is_chosen() -> bool:
    """Whether this process belongs to a CPU run."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"


def activate() -> None:
    """Register platform, patches and engine with verl. Called by the verl plugin in every process of a CPU run."""
    from prefix_opd.cpu import engine, patches, platform

    platform.register()
    patches.apply()
    engine.register()
