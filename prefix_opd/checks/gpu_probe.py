"""Try on a GPU what a run needs: attention over packed sequences, memory shared by two processes, a sum over GPUs.

    python -m prefix_opd.checks.gpu_probe

Prints one line of JSON: the name of a trial -> its result, or ``{"error": ...}``. In a process of its own, because CUDA
stays initialised in a process.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.multiprocessing

LENGTHS = (5, 1, 130, 64)
"""Tokens of the packed sequences."""
HEADS, DIMENSION = 4, 128
SECONDS = 120.0


def attention() -> dict[str, Any]:
    """Attention over a pack in bf16, against fp32 sdpa of each sequence alone: the kernel (``by``), and the largest
    error of ``output`` and ``gradient`` relative to the largest value."""
    torch.manual_seed(0)
    inputs = [torch.randn(sum(LENGTHS), HEADS, DIMENSION, device="cuda").bfloat16() for _ in "qkv"]
    upstream = torch.randn(sum(LENGTHS), HEADS, DIMENSION, device="cuda").bfloat16()
    name, packed = _kernel()
    found = _with_gradient(packed, inputs, upstream)
    wanted = _with_gradient(alone, [one.float() for one in inputs], upstream.float())
    errors = [float((a.float() - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True)]
    return {"by": name, "output": errors[0], "gradient": max(errors[1:])}


def _kernel() -> tuple[str, Callable[..., torch.Tensor]]:
    bounds = torch.tensor([0, *LENGTHS], device="cuda").cumsum(0).int()
    most = max(LENGTHS)
    if importlib.util.find_spec("flash_attn") is not None:
        from flash_attn import flash_attn_varlen_func

        return "flash-attn", lambda *qkv: flash_attn_varlen_func(*qkv, bounds, bounds, most, most, causal=True)
    from torch.nn.attention.varlen import varlen_attn

    # (-1, 0): causal
    return "torch", lambda *qkv: varlen_attn(*qkv, bounds, bounds, most, most, window_size=(-1, 0))


def alone(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """(tokens, heads, dimension): causal attention of each sequence of a pack by itself."""
    parts = zip(*(one.split(LENGTHS) for one in (q, k, v)), strict=True)
    found = [
        torch.nn.functional.scaled_dot_product_attention(*(one.transpose(0, 1) for one in part), is_causal=True)
        for part in parts
    ]
    return torch.cat([one.transpose(0, 1) for one in found])


def _with_gradient(attend: Callable, inputs: Sequence[torch.Tensor], upstream: torch.Tensor) -> list[torch.Tensor]:
    leaves = [one.clone().requires_grad_() for one in inputs]
    output = attend(*leaves)
    output.backward(upstream)
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def shared_memory() -> dict[str, Any]:
    """Another process reads this process's GPU memory (CUDA IPC), as an engine reads the trainer's weights."""
    context = torch.multiprocessing.get_context("spawn")
    numbers, sums = context.Queue(), context.Queue()
    other = context.Process(target=_add_up, args=(numbers, sums), daemon=True)
    other.start()
    tensor = torch.arange(1000, device="cuda", dtype=torch.float32)
    numbers.put(tensor)
    found = sums.get(timeout=SECONDS)
    other.join(SECONDS)
    return {"right": found == float(tensor.sum())}


def _add_up(numbers: Any, sums: Any) -> None:
    sums.put(float(numbers.get().sum()))


def sum_over_gpus() -> dict[str, Any]:
    """NCCL's all-reduce with a process for each GPU; NCCL refuses two processes on one GPU."""
    count = torch.cuda.device_count()
    if count < 2:
        return {"gpus": count}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_reduce, (count, port), nprocs=count)  # raises what a process raises
    return {"gpus": count}


def _reduce(rank: int, count: int, port: int) -> None:
    torch.cuda.set_device(rank)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("nccl", init_method=address, rank=rank, world_size=count)
    one = torch.ones(1, device="cuda")
    torch.distributed.all_reduce(one)
    torch.distributed.destroy_process_group()
    if one.item() != count:
        raise ValueError(f"the sum of {count} ones is {one.item()}")


TRIALS = {"attention": attention, "shared memory": shared_memory, "sum over GPUs": sum_over_gpus}


def main() -> int:
    found: dict[str, Any] = {}
    for name, trial in TRIALS.items():
        try:
            found[name] = trial()
        except Exception as error:
            found[name] = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
