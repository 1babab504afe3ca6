"""Checks of a GPU machine: cards, kernels, processes that share a card, host memory, /dev/shm, CPUs."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from prefix_opd.base.processes import python_module, run
from prefix_opd.checks.cards import cards_here
from prefix_opd.checks.case import Case
from prefix_opd.checks.cluster import gpus_of_a_node, joins_a_cluster, needed_cpus
from prefix_opd.checks.finding import Finding, fail, ok, warn
from prefix_opd.cost.arithmetic import GIB
from prefix_opd.cost.models import sized
from prefix_opd.cost.plan import plan

NO_GPU = "no GPU here (nvidia-smi lists none), so this was not tried"
USED_MIB = 1024
"""Memory of an idle GPU that its driver may take."""
ERROR = 0.02
"""Largest error of bf16 attention relative to the largest value: bf16 keeps 8 bits, 0.4%."""
PROBE_SECONDS = 300.0
SHM_GIB = 1.0
"""Least size of /dev/shm: Docker's default of 64 MB is too small for NCCL and Ray."""
CPUS = 4
"""Least CPUs for each GPU: trainer, two engines and their servers."""
SHM = Path("/dev/shm")


def cards(case: Case) -> Finding:
    found, asked = cards_here(), gpus_of_a_node(case.config)
    told = f"the run asks for {asked}" + (" on a node" if joins_a_cluster(case.config) else "")
    if not found:
        return warn(f"nvidia-smi lists no GPU; {told}", "run the doctor on the machine of the run")
    free = ((card, (card.total_mib - card.used_mib) / 1024, card.total_mib / 1024) for card in found)
    names = ", ".join(f"{card.name} with {left:.1f} of {whole:.1f} GiB free" for card, left, whole in free)
    reason = f"{names}; driver {found[0].driver}"
    if busy := [str(i) for i, card in enumerate(found) if card.used_mib > USED_MIB]:
        return warn(f"{reason}; others use GPU {', '.join(busy)}", "end them: nvidia-smi lists them")
    if len(found) < asked:
        return warn(f"{reason}; {told}", "choose another layout, or prefix_opd.teacher.placement=shared")
    return ok(reason)


@functools.cache
def _probe() -> dict[str, Any]:
    """What `gpu_probe` found; empty without a GPU."""
    if not cards_here():
        return {}
    try:
        ran = run(python_module("prefix_opd.checks.gpu_probe", []), PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {PROBE_SECONDS:g} s"}
    lines = ran.stdout.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"error": (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1][:300]}


def _trial(name: str) -> dict[str, Any] | None:
    """The result of a trial, with an ``error`` if it failed; None without a GPU."""
    found = _probe()
    if not found:
        return None
    return found.get(name) or {"error": found.get("error", "was not tried")}


def attention(case: Case) -> Finding:
    found = _trial("attention")
    if found is None:
        return ok(NO_GPU)
    if "error" in found:
        return fail(f"attention over packed sequences: {found['error']}", "use attn_implementation=sdpa")
    reason = f"{found['by']}, bf16 against fp32: output {found['output']:.1e}, gradient {found['gradient']:.1e}"
    if max(found["output"], found["gradient"]) > ERROR:
        return fail(f"{reason} (allowed {ERROR:g})", "reinstall it for this GPU, or use attn_implementation=sdpa")
    return ok(f"{reason} of the largest value")


def shared_memory(case: Case) -> Finding:
    found = _trial("shared memory")
    if found is None:
        return ok(NO_GPU)
    if not found.get("right"):
        why = found.get("error", "it read other numbers")
        return fail(f"a process cannot read another's GPU memory: {why}", "run containers with --ipc=host")
    return ok("a process reads another's GPU memory: the engine gets weights by CUDA IPC")


def sum_over_gpus(case: Case) -> Finding:
    found = _trial("sum over GPUs")
    if found is None:
        return ok(NO_GPU)
    if "error" in found:
        return fail(f"NCCL: {found['error']}", "see its reasons with NCCL_DEBUG=INFO")
    several = found["gpus"] > 1
    return ok(f"NCCL sums over {found['gpus']} GPUs" if several else "one GPU: NCCL has nothing to sum over")


def model_runner(case: Case) -> Finding:
    """vLLM takes its older model runner without Triton (vllm/config/vllm.py:use_v2_model_runner)."""
    if importlib.util.find_spec("triton") is None:
        return warn("triton is not installed, so vLLM uses its older model runner (V1)", "install triton")
    return ok("vLLM's newer one can run: triton is installed")


def host_memory(case: Case) -> Finding:
    """Host memory while weights load, and of what stays there: offloaded states, the weights of sleeping teachers."""
    import psutil

    available = psutil.virtual_memory().available / GIB
    here = [] if case.settings.teacher.urls else [one.teacher.key for _, one in case.by_teacher]
    student, *theirs = (sized(case.config, key).parameters for key in (case.student.key, *here))
    # verl loads a tied student on every rank, and another on the first alone (get_init_weight_context_manager)
    copies = case.config.trainer.n_gpus_per_node if case.student.decoder.get("tie_word_embeddings") else 1
    loading = (4 * student * copies + 2 * sum(theirs)) / GIB  # fp32 and bf16
    needed = max(loading, sum(plan(case.config).memory_gib["host"].values()))
    reason = f"{available:.1f} GiB of host memory are free; {needed:.1f} are needed"
    return ok(reason) if available >= needed else warn(reason, "use a machine with more, or do not offload")


def shm(case: Case) -> Finding:
    if not SHM.is_dir():
        return warn("there is no /dev/shm", "mount one")
    usage = shutil.disk_usage(SHM)
    reason = f"/dev/shm has {usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    enough = usage.free / GIB >= SHM_GIB
    return ok(reason) if enough else warn(reason, "run containers with --shm-size=16g or --ipc=host")


def cpus(case: Case) -> Finding:
    count, wanted = len(os.sched_getaffinity(0)), CPUS * gpus_of_a_node(case.config)
    reason = f"{count} CPUs; Ray gets {needed_cpus(case.config)} logical ones, which are bound to no core"
    if count < wanted:
        return warn(f"{reason}; {wanted} are advised ({CPUS} for each GPU)", "expect slower starts and rollouts")
    return ok(reason)


QUICK = (("model runner", model_runner),)
"""Checks before each run on ``platform: gpu``."""
CHECKS = (
    *QUICK,
    ("GPUs", cards),
    ("packed attention", attention),
    ("GPU memory between processes", shared_memory),
    ("NCCL", sum_over_gpus),
    ("host memory", host_memory),
    ("shared memory", shm),
    ("CPUs", cpus),
)
"""Checks of the doctor on ``platform: gpu``."""
