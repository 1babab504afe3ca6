"""Every hook of verl 0.9.1 that this package extends or replaces, with its expected signature.

``check_contract()`` returns one line per changed hook, and the contract test fails with those lines. Run this first
after an upgrade of verl:

    python -m prefix_opd.verl_plugin.contract
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from prefix_opd import cpu
from prefix_opd.base.patching import current, original
from prefix_opd.checks.preflight import check_verl_version
from prefix_opd.verl_plugin import our_run
from prefix_opd.verl_plugin.patches import PATCHES


@dataclass(frozen=True)
class Hook:
    """A function or class of verl that this package calls or overrides."""

    where: str
    """``module:qualname``."""
    parameters: str
    """Names of the required leading parameters, without ``self`` and ``cls``, separated by spaces."""
    why: str
    """The part of this package that depends on the hook."""
    reads: str = ""
    """Names and strings that the hook's code must contain, separated by spaces."""


_OURS = "prefix_opd.verl_plugin"
_TRAINER = "verl.trainer.ppo.v1.trainer_base:PPOTrainer"
_BUFFER = "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer"
_LOOP = "verl.experimental.agent_loop.agent_loop"
_TEACHER = "verl.experimental.teacher_loop"
_REPLICA = "verl.workers.rollout.vllm_rollout.vllm_async_server"
_WORKER = "verl.trainer.ppo.v1.agent_loop_tq:AgentLoopWorkerTQ.__ray_metadata__.modified_class"

HOOKS = (
    Hook("verl.trainer.ppo.v1.trainer_base:register_trainer", "name", "trainer.PrefixOPDTrainer"),
    Hook(f"{_TRAINER}._setup", "", "startup.EngineStartup", "MultiTeacherModelManager sleep_replicas TeacherModel"),
    Hook(
        f"{_TRAINER}._init_resource_pool_mgr",
        "",
        "startup.EngineStartup.begin, share_pool",
        "teacher_pool global_pool mapping resource_pool_manager",
    ),
    Hook(
        "verl.single_controller.ray.base:RayResourcePool.get_placement_groups",
        "strategy name device_name",
        "startup: placement groups are made once",
        "pgs",
    ),
    Hook(
        f"{_TEACHER}.teacher_model:TeacherModelManager._initialize_llm_servers",
        "",
        "startup.share_pool, turns.replicas",
        "rollout_replicas init_colocated num_replicas per_replica_world_size",
    ),
    Hook(
        f"{_TEACHER}.teacher_model:MultiTeacherModelManager._initialize_teacher_model_managers",
        "",
        "turns.replicas",
        "teacher_model_managers",
    ),
    Hook("verl.workers.rollout.replica:RolloutReplica.wake_up", "", "turns: the teacher's turn"),
    Hook(f"{_REPLICA}:vLLMReplica.sleep", "", "turns: the end of a turn"),
    Hook(
        f"{_REPLICA}:vLLMHttpServer.sleep",
        "",
        "turns: a teacher keeps its weights in host memory",
        "free_cache_engine COLOCATED level",
    ),
    Hook(f"{_REPLICA}:vLLMHttpServer.wake_up", "tags", "turns: the teacher wakes without a weight sync", "COLOCATED"),
    Hook("verl.checkpoint_engine.base:CheckpointEngineManager.sleep_replicas", "", "turns: the student's engine"),
    Hook("verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync.on_sample_end", "", "turns", "sleep_replicas"),
    Hook("ray._private.state:GlobalState._connect_and_get_accessor", "", "process_watch.processes"),
    Hook(f"{_TRAINER}._add_batch_to_generate", "", "early_dispatch"),
    Hook("verl.utils.skip:SkipManager.set_step", "step", "early_dispatch"),
    Hook(f"{_TRAINER}._compute_advantage", "batch metrics", "the advantage and the rollout metrics"),
    Hook(
        f"{_TRAINER}._dump_generations",
        "inputs outputs gts scores reward_extra_infos_dict dump_path",
        "evaluator: the responses of a chunk",
    ),
    Hook(f"{_BUFFER}.sample", "global_steps partition_id batch_size", "probe"),
    Hook(
        f"{_BUFFER}.__init__",
        "trainer_mode trainer_config max_off_policy_threshold max_off_policy_strategy sampler_kwargs poll_interval",
        "prefix_opd.poll_seconds",
        "poll_interval",
    ),
    Hook(f"{_BUFFER}._sync_metadata_from_transfer_queue", "", "early_dispatch: which rollouts are under way"),
    Hook(
        "verl.workers.rollout.llm_server:LLMServerClient.generate",
        "",
        "progress.WatchedClient, student_turns.StudentClient",
        "_acquire_server generate remote",
    ),
    Hook(
        f"{_LOOP}:AgentLoopWorker.__init__",
        "config llm_client teacher_client",
        "the clients that agent_loop replaces",
        "llm_client teacher_server_manager distillation_enabled",
    ),
    Hook(
        f"{_TEACHER}.teacher_manager:AsyncTeacherLLMServerManager.__init__",
        "config teacher_client",
        "the clients that agent_loop replaces",
        "teacher_client",
    ),
    Hook(
        f"{_LOOP}:AgentLoopWorker._run_agent_loop",
        "",
        "the cap and the stop tokens; the patch agent_loops",
        "hydra utils instantiate",
    ),
    Hook(
        f"{_WORKER}._run_prompt",
        "prompt sampling_params trajectory",
        "gate: prompts that end without rollouts",
        "__rollout_n__ uid session_id",
    ),
    Hook("transfer_queue.interface:async_kv_batch_put", "keys partition_id fields tags", "group_commit"),
    Hook("verl.utils.tensordict_utils:index_select_tensor_dict", "batch indices", "micro_batches"),
    Hook("torch.nn.attention.varlen:varlen_attn", "query key value cu_seq_q cu_seq_k max_q max_k", "packed_attention"),
    Hook(
        "transformers.modeling_layers:GradientCheckpointingLayer.__call__",
        "",
        "layers: checkpointing by a flag, outside the compiled forward pass",
        "gradient_checkpointing _gradient_checkpointing_func training",
    ),
    Hook("vllm.logprobs:create_prompt_logprobs", "flat_logprobs", "teacher_scores"),
    Hook(
        "verl.trainer.distillation.losses:register_distillation_loss",
        "loss_settings",
        "distillation.register_objectives",
    ),
    Hook("verl.workers.utils.padding:no_padding_2_padding", "tensor data", "alignment in the loss"),
    Hook("verl.trainer.main_ppo:run_ppo", "config task_runner_class", "launch.run"),
)
"""What this package calls or reads. `derived` has what it replaces and extends."""
OVERRIDING = {
    "verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync": f"{_OURS}.trainer.trainer:PrefixOPDTrainer",
    _WORKER: f"{_OURS}.worker.agent_loop:PrefixAgentLoopWorker",
    "verl.trainer.ppo.v1.agent_loop_tq:AgentLoopManagerTQ": f"{_OURS}.worker.agent_loop:PrefixAgentLoopManager",
    "verl.workers.rollout.llm_server:LLMServerClient": f"{_OURS}.worker.student_turns:StudentClient",
    "verl.utils.tracking:Tracking": f"{_OURS}.trainer.trackers:Trackers",
}
"""Class of verl -> the class of ours that extends it, as ``module:qualname``."""


def derived() -> Iterator[Hook]:
    """The targets of the patches, and the methods that our classes extend by ``super``, with the parameters that ours
    names."""
    for patch in PATCHES:
        for target in patch.targets if cpu.is_chosen() or not patch.cpu else ():
            names = _positional(current(patch.by(target)))[1:] if target.by else []  # the first is the original
            yield Hook(target.where, " ".join(names), f"the patch {patch.name}", target.reads)
    for verls, ours in OVERRIDING.items():
        for cls in current(ours).__mro__:
            if cls.__module__.startswith("prefix_opd."):
                for name, method in vars(cls).items():
                    if inspect.isfunction(method) and "super" in method.__code__.co_names:
                        yield Hook(f"{verls}.{name}", " ".join(_positional(method)), f"{cls.__name__}.{name}")


def check_contract() -> list[str]:
    """One line per missing or changed hook; empty if all are as expected."""
    check_verl_version()
    lines = [line for hook in HOOKS if (line := _broken(hook))]
    try:
        return [*lines, *(line for hook in derived() if (line := _broken(hook)))]
    except (ImportError, AttributeError) as error:
        return [*lines, f"a module of ours that meets verl cannot be imported ({error})"]


def _broken(hook: Hook) -> str | None:
    try:
        found = original(hook.where)
    except (ImportError, AttributeError) as error:
        return f"{hook.where} is gone ({error}): {hook.why} needs it"
    wanted, reads = hook.parameters.split(), set(hook.reads.split())
    if wanted and (names := _positional(found))[: len(wanted)] != wanted:
        return f"{hook.where} now takes {names}, not {wanted}: {hook.why} relies on that"
    if reads and (missing := reads - set(_words(inspect.unwrap(found).__code__))):
        return f"{hook.where} does not use {', '.join(sorted(missing))} any more: {hook.why} relies on that"
    return None


def _positional(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    names = (one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD)
    return [name for name in names if name not in ("self", "cls")]


def _words(code: CodeType) -> Iterator[Any]:
    """The names and constants in a function's code, including nested functions."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _words(constant)
        else:
            yield from constant if isinstance(constant, tuple) else (constant,)


if __name__ == "__main__":
    our_run.begin()  # on a CPU verl finds vLLM only with a patch
    sys.exit("\n".join(check_contract()) or 0)
