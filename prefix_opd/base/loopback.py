"""A run on one machine listens on 127.0.0.1 only."""

from __future__ import annotations

import os

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.patching import Patch, Target

LOOPBACK = "127.0.0.1"
LOOPBACK_ENVIRONMENT = {
    # ray/_private/services.py:get_node_ip_address then returns 127.0.0.1. GCS, raylet, workers and agents bind to
    # it, and so do all that ask Ray for the address: verl's vLLM servers, TransferQueue, MASTER_ADDR.
    # (ray.init(_node_ip_address="127.0.0.1") does not suffice: Ray replaces it by the machine's outer address.)
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # vllm/utils/network_utils.py:get_ip
    "VLLM_HOST_IP": LOOPBACK,
    # gloo's own sockets are on the interface of the host's name otherwise
    "GLOO_SOCKET_IFNAME": "lo",
    # so are those of NCCL's bootstrap, which leaves lo out unless it is named
    "NCCL_SOCKET_IFNAME": "lo",
}


def is_one_machine(config: DictConfig) -> bool:
    """Whether the run starts its own Ray and uses no other machine."""
    cluster = os.environ.get("RAY_ADDRESS") or OmegaConf.select(config, "ray_kwargs.ray_init.address")
    teacher_nodes = config.distillation.nnodes if config.distillation.enabled else 1
    return not cluster and config.trainer.nnodes == 1 and teacher_nodes == 1


def stay_on_loopback(config: DictConfig) -> None:
    """Call before Ray or vLLM starts. Does nothing for a run on several machines.

    ``prefix_opd.patches_off=[loopback]`` switches it off.
    """
    if is_one_machine(config) and "loopback" not in (OmegaConf.select(config, "prefix_opd.patches_off") or ()):
        set_loopback()


def set_loopback() -> None:
    """For this process and its children. Variables that the user has set stay."""
    for name, value in LOOPBACK_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


LOOPBACK_PATCH = Patch(
    name="loopback",
    processes="the launcher and its child processes, in runs on one machine",
    targets=(
        Target(
            "ray._private.services:get_node_ip_address",
            when="by the variables of `prefix_opd.base.loopback`, set before Ray starts",
        ),
    ),
    why="Ray, vLLM, gloo and NCCL listen on the machine's outer address (ray/_private/services.py:811).",
    until="Ray takes 127.0.0.1 for a node's address",
    without="a run on one machine listens on its outer address",
)
