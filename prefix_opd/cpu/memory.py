"""Memory that a process has freed stays with it: getting it back from the kernel is a fault for every 4 KiB."""

from __future__ import annotations

import ctypes

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER, _NONE = -1, 0


def keep_freed_memory() -> bool:
    """Have glibc serve every tensor from a heap that never shrinks (mallopt(3)). The process stays at its peak.

    By default a large one is mapped anew and given back. For a trainer of 6M parameters on 64 rollouts of 192 tokens
    that was a fifth of its time; engines, whose tensors are smaller, gain nothing.

    Returns:
        Whether the allocator is one that can be told: another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, _NONE) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
