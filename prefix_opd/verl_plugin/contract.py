"""Every hook of verl 0.9.1 that this package extends, with the shape it must have.

``check_contract()`` returns what has changed; the test of the same name fails with those lines. When verl is
upgraded this is the first thing to run:

    python -m prefix_opd.verl_plugin.contract
"""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import dataclass

from prefix_opd.checks.preflight import check_verl_version


@dataclass(frozen=True)
class Hook:
    """One place of verl that we call or override."""

    where: str
    """``module:qualname``."""
    parameters: tuple[str, ...]
    """The leading parameters that we rely on, ``self`` and ``cls`` left out."""
    why: str
    """What of ours breaks without it."""


_TRAINER = "verl.trainer.ppo.v1.trainer_base:PPOTrainer"
_LOOP = "verl.experimental.agent_loop.agent_loop:AgentLoopWorker"
_ENGINE = "verl.workers.engine.fsdp.transformer_impl:FSDPEngineWithLMHead"
_TRACKERS = ("project_name", "experiment_name", "default_backend", "config")

HOOKS = (
    Hook("verl.trainer.ppo.v1.trainer_base:register_trainer", ("name",), "trainer.PrefixOPDTrainer"),
    Hook("verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync.__init__", ("config",), "trainer.PrefixOPDTrainer"),
    Hook(f"{_TRAINER}._setup", (), "startup.EngineStartup"),
    Hook(f"{_TRAINER}._init_resource_pool_mgr", (), "startup.EngineStartup.begin"),
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
    Hook(f"{_TRAINER}._load_checkpoint", (), "the FLOP ledger; safe_loading"),
    Hook(f"{_TRAINER}.on_validate_begin", (), "the run log"),
    Hook(f"{_TRAINER}.on_train_begin", (), "the run log"),
    Hook(f"{_TRAINER}._validate", (), "evaluator: one chunk of problems at a time; a validation that failed whole"),
    Hook(
        f"{_TRAINER}._val_metrics_update",
        ("data_sources", "sample_uids", "reward_extra_infos_dict", "sample_turns", "expected_acc_counts"),
        "step_guard: answers that did not come back, or have no end",
    ),
    Hook(f"{_TRAINER}._maybe_log_val_generations", ("inputs", "outputs", "scores"), "trackers"),
    Hook(f"{_TRAINER}.fit", ("agent_loop_manager",), "trackers"),
    Hook("verl.trainer.ppo.v1.trainer_base:Tracking", _TRACKERS, "trackers"),
    Hook("verl.utils.tracking:Tracking.__init__", _TRACKERS, "trackers"),
    Hook(
        f"{_TRAINER}._dump_generations",
        ("inputs", "outputs", "gts", "scores", "reward_extra_infos_dict", "dump_path"),
        "evaluator: the responses of a chunk",
    ),
    Hook(
        "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer._wait_for_next_poll",
        ("partition_id", "last_debug_time"),
        "evaluator: its progress; step_guard: whether the workers live; early_dispatch",
    ),
    Hook(
        "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer._sync_metadata_from_transfer_queue",
        (),
        "early_dispatch: which rollouts are under way",
    ),
    Hook("verl.trainer.ppo.v1.trainer_base:MultiTeacherModelManager", ("config", "resource_pool"), "startup"),
    Hook("verl.trainer.ppo.v1.trainer_base:ResourcePoolManager.create_resource_pool", (), "startup"),
    Hook(f"{_LOOP}._run_agent_loop", ("sampling_params", "trajectory"), "the cap and the stop tokens"),
    Hook(f"{_LOOP}._compute_score", ("outputs", "kwargs"), "no scorer on training prefixes"),
    Hook(
        f"{_LOOP}._compute_teacher_logprobs",
        ("output", "prompt_ids", "response_ids", "validate"),
        "the proof that the teacher's answer is aligned",
    ),
    Hook("verl.workers.rollout.llm_server:LLMServerClient._acquire_server", ("request_id",), "direct_route"),
    Hook(
        "verl.workers.rollout.llm_server:LLMServerClient._release_server", ("server_id", "request_id"), "direct_route"
    ),
    Hook("verl.trainer.ppo.v1.agent_loop_tq:list_of_dict_to_tensordict", (), "group_commit"),
    Hook("transfer_queue.interface:async_kv_batch_put", ("keys", "partition_id", "fields", "tags"), "group_commit"),
    Hook("verl.workers.rollout.vllm_rollout.vllm_rollout:ServerAdapter.__init__", ("config",), "weight_socket"),
    Hook("verl.workers.rollout.vllm_rollout.vllm_async_server:vLLMHttpServer.__init__", ("config",), "weight_socket"),
    Hook("verl.checkpoint_engine.base:CheckpointEngineManager.update_weights", ("global_steps",), "engine_watch"),
    Hook("verl.workers.rollout.llm_server:LLMServerManager.get_replicas", (), "engine_watch"),
    Hook("verl.utils.torch_functional:logprobs_from_logits_v2", ("logits", "labels"), "log_probs"),
    Hook("verl.workers.engine.fsdp.transformer_impl:prepare_micro_batches", ("data", "dp_group"), "micro_batches"),
    Hook("verl.utils.tensordict_utils:index_select_tensor_dict", ("batch", "indices"), "micro_batches"),
    Hook(f"{_ENGINE}.forward_backward_batch", ("data", "loss_function", "forward_only"), "update_tokens"),
    Hook(f"{_ENGINE}.prepare_model_inputs", ("micro_batch",), "update_tokens"),
    Hook(
        f"{_ENGINE}.prepare_model_outputs",
        ("output", "output_args", "micro_batch", "logits_processor_func"),
        "update_tokens",
    ),
    Hook("transformers:AttentionInterface.register", ("key", "value"), "update_tokens: shared prompts"),
    Hook(
        "transformers.integrations.sdpa_attention:sdpa_attention_forward",
        ("module", "query", "key", "value", "attention_mask", "dropout", "scaling"),
        "update_tokens: shared prompts",
    ),
    Hook(
        "verl.experimental.teacher_loop.teacher_manager:_get_teacher_sampling_params",
        ("teacher_model_config", "distillation_loss_config"),
        "teacher_scores",
    ),
    Hook(
        "verl.workers.rollout.vllm_rollout.vllm_async_server:extract_prompt_logprobs",
        ("output", "num_prompt_logprobs", "result_dict"),
        "teacher_scores",
    ),
    Hook("vllm.logprobs:create_prompt_logprobs", ("flat_logprobs",), "teacher_scores"),
    Hook(
        "verl.utils.checkpoint.fsdp_checkpoint_manager:FSDPCheckpointManager.load_checkpoint",
        ("local_path",),
        "safe_loading",
    ),
    Hook(
        "verl.utils.checkpoint.checkpoint_handler:CheckpointHandler._load_dataloader_state",
        ("checkpoint_path",),
        "safe_loading",
    ),
    Hook("verl.trainer.ppo.v1.agent_loop_tq:AgentLoopManagerTQ.__init__", (), "agent_loop.PrefixAgentLoopManager"),
    Hook("verl.trainer.distillation.losses:register_distillation_loss", ("loss_settings",), "distillation.LOSS_MODE"),
    Hook("verl.workers.utils.padding:no_padding_2_padding", ("tensor", "data"), "alignment in the loss"),
    Hook("verl.trainer.main_ppo:run_ppo", ("config", "task_runner_class"), "launch.run"),
    Hook("verl.plugin.platform:PlatformRegistry.register", ("platform",), "cpu.platform"),
    Hook("verl.workers.rollout.replica:RolloutReplicaRegistry.register", ("name", "loader"), "cpu.engine"),
    Hook(
        "verl.workers.rollout.vllm_rollout.vllm_async_server:vLLMHttpServer._get_worker_extension_cls",
        (),
        "cpu.engine",
    ),
)


def check_contract() -> list[str]:
    """One line for each hook that is gone or has another shape; empty if all is as expected."""
    check_verl_version()
    return [line for hook in HOOKS if (line := _broken(hook))]


def _broken(hook: Hook) -> str | None:
    module, _, qualname = hook.where.partition(":")
    try:
        found = importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        return f"{hook.where} is gone ({error}): {hook.why} needs it"
    names = [
        name
        for name, parameter in inspect.signature(found).parameters.items()
        if name not in ("self", "cls") and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if tuple(names[: len(hook.parameters)]) != hook.parameters:
        return f"{hook.where} now takes {names}, not {list(hook.parameters)}: {hook.why} relies on that"
    return None


if __name__ == "__main__":
    sys.exit("\n".join(check_contract()) or 0)
