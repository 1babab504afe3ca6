"""Which keys of a run may be set, and their allowed values.

A run reads a few hundred of verl's config keys and supports only one value for many of them. `FREE` lists the keys
that may be set, each with its rule. Every other key must keep its default, so that no setting is silently ignored. To
open a key, add it here with a rule and a run that shows that it works. `reasons` says why a key is closed.
"""

from __future__ import annotations

from prefix_opd.checks.rules import Rule, elsewhere, flag, list_of, name, number, one_of, optional, text, updates, whole
from prefix_opd.config.keys import ATTENTION_KEY, NUMPY_SEED, PACKED_ATTENTION
from prefix_opd.method.objective import OBJECTIVES

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor.", "actor_rollout_ref.rollout."
TEACHER = "distillation.teacher_models.teacher_model."
_PRECISION = one_of("fp32", "bf16")
_PROCESSES, _ROLLOUTS = 1024, 1_000_000
"""More processes, prompts of a step, rollouts of a prompt or steps are a typing error: each of them costs time and
memory, and a plan has a length for each rollout and step."""


_TEACHERLESS = ("k1", "kl")


def _objective(value: object) -> str:
    """A registered objective, including the user's own."""
    if not isinstance(value, str) or value not in OBJECTIVES:
        return f"must be one of {', '.join(sorted(set(OBJECTIVES) - set(_TEACHERLESS)))}"
    # verl/trainer/distillation/losses.py differentiates the estimator log p - log q itself
    return "has a gradient that does not depend on the teacher" if value in _TEACHERLESS else ""


def _of(node: str, rules: dict[str, Rule]) -> dict[str, Rule]:
    """The rules of the keys below a node, by names that are separated by spaces."""
    return {f"{node}{name}": rule for names, rule in rules.items() for name in names.split()}


_ENGINE: dict[str, Rule] = {
    "dtype": one_of("float32", "bfloat16", "float16"),
    "gpu_memory_utilization": optional(number(above=0, most=1)),
    "cudagraph_capture_sizes": optional(list_of(whole())),
    "max_model_len": optional(whole()),
    "tensor_model_parallel_size max_num_batched_tokens max_num_seqs": whole(),
    "engine_kwargs.vllm.kv_cache_memory_bytes engine_kwargs.vllm.max_logprobs": whole(),
    "enforce_eager free_cache_engine enable_sleep_mode enable_chunked_prefill": flag,
    "enable_prefix_caching disable_log_stats": flag,
    "engine_kwargs.vllm.disable_custom_all_reduce engine_kwargs.vllm.async_scheduling": flag,
}
"""Keys that the engines of student and teacher share."""

_DATA: dict[str, Rule] = {
    "train_files val_files apply_chat_template_kwargs.": elsewhere,
    "train_max_samples val_max_samples": whole(also=-1),
    "prompt_key": text,
    "max_prompt_length max_response_length": whole(),
    "train_batch_size": whole(most=_ROLLOUTS),
    "val_batch_size filter_overlong_prompts_workers": optional(whole()),
    "shuffle validation_shuffle filter_overlong_prompts": flag,
    "seed": optional(whole(0)),
    "dataloader_num_workers": whole(0, most=_PROCESSES),
}
_MODEL: dict[str, Rule] = {
    "path target_modules exclude_modules": elsewhere,
    "trust_remote_code enable_gradient_checkpointing lora.merge use_remove_padding": flag,
    "custom_chat_template lora_adapter_path": optional(text),
    "lora_rank": whole(0),
    "lora_alpha": whole(),
}
_UPDATE: dict[str, Rule] = {
    "ppo_mini_batch_size ppo_max_token_len_per_gpu": whole(),
    "loss_agg_mode": one_of(
        "token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"
    ),
    "loss_scale_factor": optional(whole()),
    "shuffle use_torch_compile checkpoint.save_lora_only": flag,
    "data_loader_seed": whole(0),
    "checkpoint.save_contents": list_of(one_of("model", "optimizer", "extra", "hf_model"), least=3),
}
_OPTIMIZER: dict[str, Rule] = {
    "lr clip_grad num_cycles override_optimizer_config.eps": number(above=0),
    "weight_decay": number(least=0),
    "betas": list_of(number(least=0, most=0.999999), least=2, most=2),
    "lr_scheduler_type": one_of("constant", "cosine"),
    "lr_warmup_steps": whole(-1),
    "lr_warmup_steps_ratio min_lr_ratio": number(least=0, most=1),
    "zero_indexed_step override_optimizer_config.foreach override_optimizer_config.fused": flag,
}
_FSDP: dict[str, Rule] = {
    "param_offload optimizer_offload offload_policy reshard_after_forward forward_prefetch": flag,
    "use_torch_compile use_no_sync_for_gradient_accumulation": flag,
    "model_dtype mixed_precision.param_dtype mixed_precision.reduce_dtype": _PRECISION,
}
_SAMPLING: dict[str, Rule] = {
    "temperature": number(above=0),
    "top_k val_kwargs.top_k": whole(also=-1),
    "top_p val_kwargs.top_p": number(above=0, most=1),
    "seed": whole(0, most=NUMPY_SEED),
    "ignore_eos calculate_log_probs val_kwargs.do_sample": flag,
    "n val_kwargs.n": whole(most=_ROLLOUTS),
    "log_prob_max_token_len_per_gpu": whole(),
    "checkpoint_engine.update_weights_bucket_megabytes": whole(),
    "val_kwargs.temperature": number(least=0),
    "agent.num_workers": whole(most=_PROCESSES),
    "agent.agent_loop_manager_class agent.default_agent_loop": elsewhere,
}
_TRAINER: dict[str, Rule] = {
    "val_before_train": flag,
    "total_epochs nnodes n_gpus_per_node": whole(),
    "total_training_steps": whole(most=_ROLLOUTS),
    "project_name default_local_dir": text,
    "experiment_name": name,
    "logger resume_from_path": elsewhere,
    "log_val_generations": whole(0),
    "validation_data_dir": optional(text),
    "save_freq test_freq": updates,
    "resume_mode": one_of("auto", "disable", "resume_path"),
}
_RAY: dict[str, Rule] = {
    "address": optional(text),
    "num_cpus num_gpus": optional(whole()),
    "include_dashboard": flag,
    "object_store_memory": optional(whole(80_000_000)),
    "_temp_dir runtime_env.env_vars. runtime_env.working_dir": text,
}

FREE = {
    **_of("data.", _DATA),
    **_of("actor_rollout_ref.model.", _MODEL),
    ATTENTION_KEY: one_of("sdpa", "flash_attention_2", PACKED_ATTENTION),
    **_of(_ACTOR, _UPDATE),
    **_of(f"{_ACTOR}optim.", _OPTIMIZER),
    **_of(f"{_ACTOR}fsdp_config.", _FSDP),
    **_of(_ROLLOUT, _ENGINE | _SAMPLING),
    **_of("distillation.", {"n_gpus_per_node nnodes distillation_loss.topk": whole()}),
    f"{TEACHER}model_path": elsewhere,
    **_of(f"{TEACHER}inference.", _ENGINE),
    "distillation.distillation_loss.loss_mode": _objective,
    "distillation.distillation_loss.loss_max_clamp": optional(number(above=0)),
    "distillation.distillation_loss.log_prob_min_clamp": optional(number(most=0)),
    "platform": one_of("cpu", "gpu"),
    "prefix_opd.": elsewhere,
    "reward.num_workers": whole(most=_PROCESSES),
    **_of("reward.custom_reward_function.", {"path name": text, "reward_kwargs.": elsewhere}),
    **_of("trainer.", _TRAINER),
    **_of(
        "transfer_queue.backend.SimpleStorage.",
        {"total_storage_size": whole(), "num_data_storage_units": whole(most=_PROCESSES)},
    ),
    **_of("ray_kwargs.ray_init.", _RAY),
}
"""Key -> rule. A name that ends with a dot covers all keys below it."""

NAMED_TEACHER = {"key": text, "num_replicas": whole()}
"""Keys that are open where a run has several teachers (`prefix_opd.config.teachers`)."""

_ENGINE_OF_A_GPU = ("enforce_eager", "free_cache_engine", "enable_sleep_mode", "tensor_model_parallel_size")
CPU_CLOSED = (
    ATTENTION_KEY,
    "actor_rollout_ref.model.use_remove_padding",
    *(engine + key for engine in (_ROLLOUT, TEACHER + "inference.") for key in _ENGINE_OF_A_GPU),
    _ROLLOUT + "cudagraph_capture_sizes",
    TEACHER + "inference.cudagraph_capture_sizes",
    _ROLLOUT + "enable_chunked_prefill",
    *(_ACTOR + "fsdp_config." + key for key in ("param_offload", "optimizer_offload", "offload_policy")),
    "trainer.nnodes",
    "ray_kwargs.ray_init.address",
)
"""Keys that must keep their default without a GPU."""
