"""Environment variables of a CPU run. Set before ``import verl``; Ray's local workers inherit them."""

from __future__ import annotations

import os

CPU_ENVIRONMENT = {
    # verl/plugin/platform/platform_manager.py:_detect_platform_name
    "VERL_PLATFORM": "cpu",
    # verl/workers/engine/base.py:405 registers engines for "cuda" and "npu" only
    "VERL_ENGINE_DEVICE": "cuda",
    # vllm/v1/worker/cpu_worker.py binds each engine to its own cores; on two cores the engines starve each other
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # vLLM would compile its sampler at the first call, which takes longer than a small run
    "TORCHDYNAMO_DISABLE": "1",
    # several processes share few cores; more threads would only wait for each other
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    # verl/workers/rollout/vllm_rollout: vLLM's request to its usage server blocks without a network
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray enables token authentication in ray.init; processes forked from a warm copy read the mode earlier
    "RAY_AUTH_MODE": "token",
    # Ray would report metrics through an agent process of 100 MB; nothing reads them
    "RAY_enable_metrics_collection": "0",
    # Ray would start one idle worker per core. After a kill they live until the dead raylet leaves the process table:
    # forever if init does not reap orphans
    "RAY_prestart_worker_first_driver": "0",
}


def set_environment() -> None:
    """Set these variables. The user's values take precedence, except for the platform."""
    os.environ["VERL_PLATFORM"] = "cpu"
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
