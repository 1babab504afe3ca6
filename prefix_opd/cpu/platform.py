"""verl's platform "cpu" (chosen by ``VERL_PLATFORM=cpu``)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import types

import psutil
import torch

SHORT = 0.5
"""Share of the machine's memory. While more is available, freed memory stays with the process, which is faster
(`prefix_opd.cpu.distributed.keep_freed_memory`)."""


def _free_unused() -> None:
    """Return free pages of malloc to the system where memory is short. Sequences of many lengths scatter them over its
    arenas: a trainer of 135M parameters kept 8 GB after 30 updates."""
    memory = psutil.virtual_memory()
    if memory.available < SHORT * memory.total and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc's
        libc.malloc_trim(0)


class _CpuDevice(types.ModuleType):
    """``torch.cpu`` with the calls of ``torch.cuda`` that verl makes on ``get_torch_device()``."""

    def __getattr__(self, name: str):
        return getattr(torch.cpu, name)

    # False: verl has no accelerator cache to empty, nothing to seed or to profile
    is_available = staticmethod(lambda: False)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    # verl/utils/flops_counter.py:80 looks the name up in its table of peak FLOP rates
    get_device_name = staticmethod(lambda *_: "CPU")
    set_device = synchronize = ipc_collect = reset_peak_memory_stats = staticmethod(lambda *_: None)
    empty_cache = staticmethod(_free_unused)  # verl/workers/engine_workers.py:update_weights calls it after each update
    # verl/workers/engine_workers.py:_postprocess_output reports them each step
    memory_allocated = memory_reserved = staticmethod(lambda *_: psutil.Process(os.getpid()).memory_info().rss)
    max_memory_allocated = max_memory_reserved = staticmethod(
        lambda *_: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    # verl/utils/checkpoint/checkpoint_manager.py saves the random state of the device
    get_rng_state = staticmethod(torch.get_rng_state)
    set_rng_state = staticmethod(torch.set_rng_state)
    manual_seed = manual_seed_all = staticmethod(torch.manual_seed)

    @staticmethod
    def mem_get_info(*_):
        memory = psutil.virtual_memory()
        return memory.available, memory.total


def platform(nothing: None) -> type:
    """The class for "cpu" in verl's platform registry; verl itself has none."""
    from verl.plugin.platform import PlatformBase

    class PlatformCPU(PlatformBase):
        device_name = "cpu"
        vendor_name = "cpu"
        device_module = _CpuDevice("prefix_opd_cpu_device")

        def is_available(self) -> bool:
            return True

        def current_device(self):
            # verl calls tensor.to(get_device_id()); an integer there would mean cuda:<integer>
            return torch.device("cpu")

        def device_count(self) -> int:
            return 1

        def set_device(self, device_index: int) -> None: ...

        def synchronize(self, device_index=None) -> None: ...

        def set_allocator_settings(self, settings: str) -> None: ...

        def empty_cache(self) -> None: ...

        profiler_start = profiler_stop = cudart = empty_cache

        def manual_seed(self, seed: int) -> None:
            torch.manual_seed(seed)

        manual_seed_all = manual_seed

        def get_device_capability(self, device_index: int = 0):
            return None, None

        def communication_backend_name(self) -> str:
            return "gloo"

        def visible_devices_envvar(self) -> str:
            return "CUDA_VISIBLE_DEVICES"

        @contextlib.contextmanager
        def nvtx_range(self, msg: str):
            yield

        def ray_resource_name(self) -> str:
            # verl/single_controller/ray/base.py:229 counts only "GPU" and "NPU"; the CPU config simulates Ray GPUs
            return "GPU"

        def ray_noset_envvars(self) -> list[str]:
            return []

        def is_ipc_supported(self) -> bool:
            # without CUDA IPC verl sends weights through POSIX shared memory
            return False

    return PlatformCPU
