"""Process groups of a CPU run: over gloo, on the cores of idle engines, and on the loopback interface only."""

from __future__ import annotations

import ctypes
import os
import socket
from typing import Any

import torch
import torch.distributed

from prefix_opd.base.loopback import LOOPBACK
from prefix_opd.base.patching import around

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER, _NONE = -1, 0


@around
def over_gloo(torchs_own, backend=None, *args, **kwargs) -> None:
    """``torch.distributed.init_process_group``. The backend "cpu:gloo,cpu:gloo" becomes "cpu:gloo"."""
    if backend == "cpu:gloo,cpu:gloo":
        backend = "cpu:gloo"
        # Only verl's training processes call this. The engines are idle during training, so take their cores.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("WORLD_SIZE", 1))))
        keep_freed_memory()
    # the trainers, and the engines' weight receivers (verl/checkpoint_engine/base.py:351)
    alone = backend == "cpu:gloo" and os.environ.get("MASTER_ADDR") == LOOPBACK
    if alone and kwargs.get("init_method") is None:
        kwargs.update(_loopback_rendezvous())
    return torchs_own(backend, *args, **kwargs)


def keep_freed_memory() -> bool:
    """Make glibc serve every tensor from a heap that never shrinks (mallopt(3)). The process stays at its peak memory.

    By default glibc maps and unmaps each large tensor separately. This took a fifth of the time of a trainer with 6M
    parameters and 64 rollouts of 192 tokens. Engines have smaller tensors and gain nothing. False: another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, _NONE) and mallopt(_M_TRIM_THRESHOLD, _NEVER))


def _loopback_rendezvous() -> dict[str, Any]:
    # as torch's env://, but the store does not listen on every interface
    rank, world_size, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    listening = {}
    if rank == 0:
        listening = {"master_listen_fd": socket.create_server((LOOPBACK, port)).detach()}
    store = torch.distributed.TCPStore(LOOPBACK, port, world_size, rank == 0, wait_for_workers=False, **listening)
    return {"store": store, "rank": rank, "world_size": world_size}
