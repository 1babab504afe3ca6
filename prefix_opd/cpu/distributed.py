"""Process groups of a CPU run: over gloo, on the cores of idle engines, and on the loopback interface only."""

from __future__ import annotations

import os
import socket
from typing import Any

import torch
import torch.distributed

from prefix_opd.base.loopback import LOOPBACK
from prefix_opd.base.patching import around
from prefix_opd.cpu.memory import keep_freed_memory


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


def _loopback_rendezvous() -> dict[str, Any]:
    # as torch's env://, but the store does not listen on every interface
    rank, world_size, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    listening = {}
    if rank == 0:
        listening = {"master_listen_fd": socket.create_server((LOOPBACK, port)).detach()}
    store = torch.distributed.TCPStore(LOOPBACK, port, world_size, rank == 0, wait_for_workers=False, **listening)
    return {"store": store, "rank": rank, "world_size": world_size}
