"""verl, Ray and vLLM on a machine without a GPU. Inactive unless ``VERL_PLATFORM=cpu`` is set.

============== ==================================================================================
`environment`  the variables that a CPU run sets before verl is imported
`warm_python`  import once, fork many
`ray_ids`      ids of Ray in forks
`platform`     verl's platform "cpu": device module, gloo, no CUDA IPC
`distributed`  process groups over gloo
`version`      the version of "vllm" where its build for CPUs is installed
`vllm_worker`  vLLM's worker: weights stay loadable, seeds count
============== ==================================================================================

Each replacement in verl, vLLM, torch or Python is a row of `prefix_opd.verl_plugin.patches`.
"""

from __future__ import annotations

import os


def is_chosen() -> bool:
    """Whether this process belongs to a CPU run."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"
