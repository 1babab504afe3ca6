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
from prefix_opd.base.patching import original
from prefix_opd.checks.preflight import check_verl_version
from prefix_opd.verl_plugin import our_run
from prefix_opd.verl_plugin.patches import PATCHES


@dataclass(frozen=True)
class Hook:
    """A function or class of verl that this package calls or overrides."""

    where: str
    """``module:qualname``."""
    parameters: tuple[str, ...] | None
    """The required leading parameters, without ``self`` and ``cls``. None: the hook is not a function."""
    why: str
    """The part of this package that depends on the hook."""
    reads: tuple[str, ...] = ()
    """Names and strings that the hook's code must contain."""


_TRAINER = "verl.trainer.ppo.v1.trainer_base:PPOTrainer"
_LOOP = "verl.experimental.agent_loop.agent_loop:AgentLoopWorker"
_TRACKERS = ("project_name", "experiment_name", "default_backend", "config")

HOOKS = (
    Hook("verl.trainer.ppo.v1.trainer_base:register_trainer", ("name",), "trainer.PrefixOPDTrainer"),
    Hook("verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync.__init__", ("config",), "trainer.PrefixOPDTrainer"),
    Hook(
        f"{_TRAINER}._setup",
        (),
        "startup.EngineStartup",
        ("MultiTeacherModelManager", "sleep_replicas", "TeacherModel"),
    ),
    Hook(
        f"{_TRAINER}._init_resource_pool_mgr",
        (),
        "startup.EngineStartup.begin, share_pool",
        ("teacher_pool", "global_pool", "mapping", "resource_pool_manager"),
    ),
    Hook(
        "verl.single_controller.ray.base:RayResourcePool.get_placement_groups",
        ("strategy", "name", "device_name"),
        "startup: placement groups are made once",
        ("pgs",),
    ),
    Hook(
        "verl.experimental.teacher_loop.teacher_model:TeacherModelManager._initialize_llm_servers",
        (),
        "startup.share_pool, turns.replicas",
        ("rollout_replicas", "init_colocated", "num_replicas", "per_replica_world_size"),
    ),
    Hook(
        "verl.experimental.teacher_loop.teacher_model:MultiTeacherModelManager._initialize_teacher_model_managers",
        (),
        "turns.replicas",
        ("teacher_model_managers",),
    ),
    Hook("verl.workers.rollout.replica:RolloutReplica.wake_up", (), "turns: the teacher's turn"),
    Hook("verl.workers.rollout.vllm_rollout.vllm_async_server:vLLMReplica.sleep", (), "turns: the end of a turn"),
    Hook(
        "verl.workers.rollout.vllm_rollout.vllm_async_server:vLLMHttpServer.sleep",
        (),
        "turns: a teacher keeps its weights in host memory",
        ("free_cache_engine", "COLOCATED", "level"),
    ),
    Hook(
        "verl.workers.rollout.vllm_rollout.vllm_async_server:vLLMHttpServer.wake_up",
        ("tags",),
        "turns: the teacher wakes without a weight sync",
        ("COLOCATED",),
    ),
    Hook("verl.checkpoint_engine.base:CheckpointEngineManager.sleep_replicas", (), "turns: the student's engine"),
    Hook("verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync.on_sample_end", (), "turns", ("sleep_replicas",)),
    Hook(f"{_TRAINER}.on_sample_begin", (), "turns"),
    Hook(f"{_TRAINER}.fit", ("agent_loop_manager",), "the milestone at the end of the start-up"),
    Hook("ray._private.state:GlobalState._connect_and_get_accessor", (), "start_limit.processes"),
    Hook(f"{_TRAINER}.step", ("metrics", "timing_raw"), "the numbers of a step in its checkpoint"),
    Hook(f"{_TRAINER}._step_once", ("metrics", "timing_raw", "sample_batch_size"), "step_guard: once more"),
    Hook(f"{_TRAINER}._submit_batch_to_rollout", ("batch",), "step_guard: the prompts to sample again; probe.Probe"),
    Hook(f"{_TRAINER}.on_step_begin", (), "probe.Probe"),
    Hook(f"{_TRAINER}.prepare_step", (), "early_dispatch"),
    Hook(f"{_TRAINER}._add_batch_to_generate", (), "early_dispatch"),
    Hook("verl.utils.skip:SkipManager.set_step", ("step",), "early_dispatch"),
    Hook(
        "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer.sample", ("global_steps", "partition_id", "batch_size"), "probe"
    ),
    Hook(f"{_TRAINER}._balance_batch", ("batch", "metrics"), "the check that every rollout came back"),
    Hook(f"{_TRAINER}.on_step_end", (), "the end after a step, as asked"),
    Hook(f"{_TRAINER}._compute_old_log_prob", ("batch", "metrics"), "no second student pass"),
    Hook(f"{_TRAINER}._compute_advantage", ("batch", "metrics"), "the advantage and the rollout metrics"),
    Hook(f"{_TRAINER}._update_actor", ("batch", "metrics"), "the names of the loss metrics"),
    Hook(f"{_TRAINER}._compute_metrics", ("batch", "metrics", "timing_raw", "global_steps", "epoch"), "seconds"),
    Hook(f"{_TRAINER}._save_checkpoint", (), "the FLOP ledger"),
    Hook(f"{_TRAINER}.on_validate_begin", (), "the run log"),
    Hook(f"{_TRAINER}.on_train_begin", (), "the run log"),
    Hook(f"{_TRAINER}._validate", (), "evaluator: one chunk of problems at a time; a validation that failed whole"),
    Hook(
        f"{_TRAINER}._val_metrics_update",
        ("data_sources", "sample_uids", "reward_extra_infos_dict", "sample_turns", "expected_acc_counts"),
        "step_guard: answers that did not come back, or have no end",
    ),
    Hook(f"{_TRAINER}._maybe_log_val_generations", ("inputs", "outputs", "scores"), "trackers"),
    Hook("verl.utils.tracking:Tracking.__init__", _TRACKERS, "trackers"),
    Hook(
        f"{_TRAINER}._dump_generations",
        ("inputs", "outputs", "gts", "scores", "reward_extra_infos_dict", "dump_path"),
        "evaluator: the responses of a chunk",
    ),
    Hook(
        "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer.__init__",
        (
            *("trainer_mode", "trainer_config", "max_off_policy_threshold", "max_off_policy_strategy"),
            *("sampler_kwargs", "poll_interval"),
        ),
        "prefix_opd.poll_seconds",
        ("poll_interval",),
    ),
    Hook(
        "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer._sync_metadata_from_transfer_queue",
        (),
        "early_dispatch: which rollouts are under way",
    ),
    Hook(
        "verl.workers.rollout.llm_server:LLMServerClient.generate",
        ("request_id",),
        "progress.WatchedClient, student_turns.StudentClient",
        ("_acquire_server", "generate", "remote"),
    ),
    Hook("verl.experimental.agent_loop.agent_loop:_agent_loop_registry", None, "agent loops of the user's"),
    Hook("verl.workers.rollout.replica:TokenOutput", None, "student_turns: a turn after the last token of L"),
    Hook(
        f"{_LOOP}.__init__",
        ("config", "llm_client", "teacher_client"),
        "the clients that agent_loop replaces",
        ("llm_client", "teacher_server_manager", "distillation_enabled"),
    ),
    Hook(
        "verl.experimental.teacher_loop.teacher_manager:AsyncTeacherLLMServerManager.__init__",
        ("config", "teacher_client"),
        "the clients that agent_loop replaces",
        ("teacher_client",),
    ),
    Hook(
        f"{_LOOP}._run_agent_loop",
        ("sampling_params", "trajectory"),
        "the cap and the stop tokens; the patch agent_loops",
        ("hydra", "utils", "instantiate"),
    ),
    Hook(
        "verl.trainer.ppo.v1.agent_loop_tq:AgentLoopWorkerTQ.__ray_metadata__.modified_class._run_prompt",
        ("prompt", "sampling_params", "trajectory"),
        "gate: prompts that end without rollouts",
        ("__rollout_n__", "uid", "session_id"),
    ),
    Hook(f"{_LOOP}._compute_score", ("outputs", "kwargs"), "no scorer on training prefixes"),
    Hook(
        f"{_LOOP}._compute_teacher_logprobs",
        ("output", "prompt_ids", "response_ids", "validate"),
        "the proof that the teacher's answer is aligned",
    ),
    Hook("transfer_queue.interface:async_kv_batch_put", ("keys", "partition_id", "fields", "tags"), "group_commit"),
    Hook("verl.utils.tensordict_utils:index_select_tensor_dict", ("batch", "indices"), "micro_batches"),
    Hook(
        "torch.nn.attention.varlen:varlen_attn",
        ("query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"),
        "packed_attention",
    ),
    Hook(
        "transformers.modeling_layers:GradientCheckpointingLayer.__call__",
        (),
        "layers: checkpointing by a flag, outside the compiled forward pass",
        ("gradient_checkpointing", "_gradient_checkpointing_func", "training"),
    ),
    Hook("vllm.logprobs:create_prompt_logprobs", ("flat_logprobs",), "teacher_scores"),
    Hook("verl.trainer.ppo.v1.agent_loop_tq:AgentLoopManagerTQ.__init__", (), "agent_loop.PrefixAgentLoopManager"),
    Hook(
        "verl.trainer.distillation.losses:register_distillation_loss",
        ("loss_settings",),
        "distillation.register_objectives",
    ),
    Hook("verl.workers.utils.padding:no_padding_2_padding", ("tensor", "data"), "alignment in the loss"),
    Hook("verl.trainer.main_ppo:run_ppo", ("config", "task_runner_class"), "launch.run"),
)


REPLACED = tuple(
    Hook(target.where, target.parameters, f"the patch {patch.name}", target.reads)
    for patch in PATCHES
    for target in patch.targets
    if cpu.is_chosen() or not patch.cpu
)
"""The targets of the patches (`prefix_opd.verl_plugin.patches`), checked on the original definitions."""


def check_contract() -> list[str]:
    """One line per missing or changed hook; empty if all are as expected."""
    check_verl_version()
    return [line for hook in (*HOOKS, *REPLACED) if (line := _broken(hook))]


def _broken(hook: Hook) -> str | None:
    try:
        found = original(hook.where)
    except (ImportError, AttributeError) as error:
        return f"{hook.where} is gone ({error}): {hook.why} needs it"
    if hook.parameters is None:
        return None
    names = [
        name
        for name, parameter in inspect.signature(found).parameters.items()
        if name not in ("self", "cls") and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if tuple(names[: len(hook.parameters)]) != hook.parameters:
        return f"{hook.where} now takes {names}, not {list(hook.parameters)}: {hook.why} relies on that"
    if hook.reads and (missing := set(hook.reads) - set(_words(inspect.unwrap(found).__code__))):
        return f"{hook.where} does not use {', '.join(sorted(missing))} any more: {hook.why} relies on that"
    return None


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
