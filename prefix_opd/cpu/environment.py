"""Environment variables of a CPU run. Set before ``import verl``; Ray's local workers inherit them."""

from __future__ import annotations

import os

CPU_ENVIRONMENT = {
    # verl/plugin/platform/platform_manager.py:_detect_platform_name
    "VERL_PLATFORM": "cpu",
    # verl/workers/engine/base.py:405: engines are registered for "cuda" and "npu" alone
    "VERL_ENGINE_DEVICE": "cuda",
    # vllm/v1/worker/cpu_worker.py binds each engine to cores of its own; on two cores they starve one another
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # vLLM compiles its sampler at the first call; for tiny models that takes longer than the run
    "TORCHDYNAMO_DISABLE": "1",
    # several processes share few cores: more threads each only make them wait for one another
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    # verl/workers/rollout/vllm_rollout: a request to vLLM's usage server is a wait without a network
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray turns its token on at ray.init; processes forked from a warm copy read the mode before that
    "RAY_AUTH_MODE": "token",
    # a tool of Ray's reports metrics through an agent process of 100 MB that nobody reads here
    "RAY_enable_metrics_collection": "0",
    # Ray would start an interpreter a core for tasks without an environment of their own, of which a run has none; if
    # the run is killed they live as long as the process table shows the dead raylet, for ever below an init that does
    # not reap
    "RAY_prestart_worker_first_driver": "0",
}


def set_environment() -> None:
    """Set what is not set yet: a user's own value wins, but for the platform itself."""
    os.environ["VERL_PLATFORM"] = "cpu"
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
