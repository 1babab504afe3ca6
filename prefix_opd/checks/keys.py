"""Which keys of a run may be set, and their allowed values.

A run reads a few hundred of verl's config keys and supports only one value for many of them. `FREE` lists the keys
that may be set, each with its rule. Every other key must keep its default, so that no setting is silently ignored. To
open a key, add it here with a rule and a run that shows that it works. `reasons` says why a key is closed.
"""

from __future__ import annotations

from prefix_opd.checks.rules import elsewhere, flag, list_of, name, number, one_of, optional, text, updates, whole
from prefix_opd.config.keys import ATTENTION_KEY, NUMPY_SEED, PACKED_ATTENTION, TORCH_SEED
from prefix_opd.method.objective import OBJECTIVES

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor.", "actor_rollout_ref.rollout."
TEACHER = "distillation.teacher_models.teacher_model."
_PRECISION = one_of("fp32", "bf16")
_PROCESSES = whole(most=1024)


_TEACHERLESS = ("k1", "kl")


def _objective(value: object) -> str:
    """A registered objective, including the user's own."""
    if not isinstance(value, str) or value not in OBJECTIVES:
        return f"must be one of {', '.join(sorted(set(OBJECTIVES) - set(_TEACHERLESS)))}"
    # verl/trainer/distillation/losses.py differentiates the estimator log p - log q itself
    return "has a gradient in which the teacher does not occur" if value in _TEACHERLESS else ""


def _engine(prefix: str) -> dict:
    """Keys that the engines of student and teacher share."""
    rules = {
        "dtype": one_of("float32", "bfloat16", "float16"),
        "gpu_memory_utilization": optional(number(above=0, most=1)),
        "enforce_eager": flag,
        "cudagraph_capture_sizes": optional(list_of(whole())),
        "free_cache_engine": flag,
        "enable_sleep_mode": flag,
        "tensor_model_parallel_size": whole(),
        "max_num_batched_tokens": whole(),
        "max_model_len": optional(whole()),
        "max_num_seqs": whole(),
        "enable_chunked_prefill": flag,
        "enable_prefix_caching": flag,
        "disable_log_stats": flag,
        "engine_kwargs.vllm.kv_cache_memory_bytes": whole(),
        "engine_kwargs.vllm.max_logprobs": whole(),
        "engine_kwargs.vllm.disable_custom_all_reduce": flag,
        "engine_kwargs.vllm.async_scheduling": flag,
    }
    return {prefix + key: rule for key, rule in rules.items()}


FREE = {
    "data.train_files": elsewhere,
    "data.val_files": elsewhere,
    "data.train_max_samples": whole(also=-1),
    "data.val_max_samples": whole(also=-1),
    "data.prompt_key": text,
    "data.max_prompt_length": whole(),
    "data.max_response_length": whole(),
    "data.train_batch_size": whole(),
    "data.val_batch_size": optional(whole()),
    "data.shuffle": flag,
    "data.validation_shuffle": flag,
    "data.seed": optional(whole(0, most=TORCH_SEED)),
    "data.dataloader_num_workers": whole(0),
    "data.filter_overlong_prompts": flag,
    "data.filter_overlong_prompts_workers": optional(whole()),
    "data.truncation": one_of("error", "left", "right", "middle"),
    "data.apply_chat_template_kwargs.": elsewhere,
    "actor_rollout_ref.model.path": elsewhere,
    "actor_rollout_ref.model.trust_remote_code": flag,
    "actor_rollout_ref.model.custom_chat_template": optional(text),
    ATTENTION_KEY: one_of("sdpa", "flash_attention_2", PACKED_ATTENTION),
    "actor_rollout_ref.model.enable_gradient_checkpointing": flag,
    "actor_rollout_ref.model.lora_rank": whole(0),
    "actor_rollout_ref.model.lora_alpha": whole(),
    "actor_rollout_ref.model.target_modules": elsewhere,
    "actor_rollout_ref.model.exclude_modules": elsewhere,
    "actor_rollout_ref.model.lora_adapter_path": optional(text),
    "actor_rollout_ref.model.lora.merge": flag,
    "actor_rollout_ref.model.use_remove_padding": flag,
    "actor_rollout_ref.nccl_timeout": whole(),
    _ACTOR + "ppo_mini_batch_size": whole(),
    _ACTOR + "ppo_max_token_len_per_gpu": whole(),
    _ACTOR + "loss_agg_mode": one_of(
        "token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"
    ),
    _ACTOR + "loss_scale_factor": optional(whole()),
    _ACTOR + "shuffle": flag,
    _ACTOR + "data_loader_seed": whole(0, most=TORCH_SEED),
    _ACTOR + "use_torch_compile": flag,
    _ACTOR + "checkpoint.save_lora_only": flag,
    _ACTOR + "checkpoint.save_contents": list_of(one_of("model", "optimizer", "extra", "hf_model"), least=3),
    _ACTOR + "optim.lr": number(above=0),
    _ACTOR + "optim.weight_decay": number(least=0),
    _ACTOR + "optim.betas": list_of(number(least=0, most=0.999999), least=2, most=2),
    _ACTOR + "optim.clip_grad": number(above=0),
    _ACTOR + "optim.lr_scheduler_type": one_of("constant", "cosine"),
    _ACTOR + "optim.lr_warmup_steps": whole(-1),
    _ACTOR + "optim.lr_warmup_steps_ratio": number(least=0, most=1),
    _ACTOR + "optim.min_lr_ratio": number(least=0, most=1),
    _ACTOR + "optim.num_cycles": number(above=0),
    _ACTOR + "optim.zero_indexed_step": flag,
    _ACTOR + "optim.override_optimizer_config.eps": number(above=0),
    _ACTOR + "optim.override_optimizer_config.foreach": flag,
    _ACTOR + "optim.override_optimizer_config.fused": flag,
    _ACTOR + "fsdp_config.param_offload": flag,
    _ACTOR + "fsdp_config.optimizer_offload": flag,
    _ACTOR + "fsdp_config.offload_policy": flag,
    _ACTOR + "fsdp_config.reshard_after_forward": flag,
    _ACTOR + "fsdp_config.forward_prefetch": flag,
    _ACTOR + "fsdp_config.model_dtype": _PRECISION,
    _ACTOR + "fsdp_config.seed": whole(0, most=NUMPY_SEED),
    _ACTOR + "fsdp_config.use_torch_compile": flag,
    _ACTOR + "fsdp_config.use_no_sync_for_gradient_accumulation": flag,
    _ACTOR + "fsdp_config.mixed_precision.param_dtype": _PRECISION,
    _ACTOR + "fsdp_config.mixed_precision.reduce_dtype": _PRECISION,
    _ACTOR + "fsdp_config.mixed_precision.buffer_dtype": _PRECISION,
    **_engine(_ROLLOUT),
    _ROLLOUT + "temperature": number(above=0),
    _ROLLOUT + "top_k": whole(also=-1),
    _ROLLOUT + "top_p": number(above=0, most=1),
    _ROLLOUT + "seed": whole(0, most=NUMPY_SEED),
    _ROLLOUT + "ignore_eos": flag,
    _ROLLOUT + "n": whole(),
    _ROLLOUT + "calculate_log_probs": flag,
    _ROLLOUT + "log_prob_max_token_len_per_gpu": whole(),
    _ROLLOUT + "val_kwargs.temperature": number(least=0),
    _ROLLOUT + "val_kwargs.top_p": number(above=0, most=1),
    _ROLLOUT + "val_kwargs.top_k": whole(also=-1),
    _ROLLOUT + "val_kwargs.n": whole(),
    _ROLLOUT + "val_kwargs.do_sample": flag,
    _ROLLOUT + "agent.num_workers": _PROCESSES,
    _ROLLOUT + "agent.agent_loop_manager_class": elsewhere,
    _ROLLOUT + "agent.default_agent_loop": elsewhere,
    _ROLLOUT + "checkpoint_engine.update_weights_bucket_megabytes": whole(),
    "distillation.n_gpus_per_node": whole(),
    "distillation.nnodes": whole(),
    TEACHER + "model_path": elsewhere,
    **_engine(TEACHER + "inference."),
    "distillation.distillation_loss.loss_mode": _objective,
    "distillation.distillation_loss.topk": whole(),
    "distillation.distillation_loss.loss_max_clamp": optional(number(above=0)),
    "distillation.distillation_loss.log_prob_min_clamp": optional(number(most=0)),
    "platform": one_of("cpu", "gpu"),
    "prefix_opd.": elsewhere,
    "reward.num_workers": _PROCESSES,
    "reward.custom_reward_function.path": text,
    "reward.custom_reward_function.name": text,
    "reward.custom_reward_function.reward_kwargs.": elsewhere,
    "trainer.balance_batch": flag,
    "trainer.total_epochs": whole(),
    "trainer.total_training_steps": whole(),
    "trainer.project_name": text,
    "trainer.experiment_name": name,
    "trainer.logger": elsewhere,
    "trainer.log_val_generations": whole(0),
    "trainer.validation_data_dir": optional(text),
    "trainer.nnodes": whole(),
    "trainer.n_gpus_per_node": whole(),
    "trainer.save_freq": updates,
    "trainer.test_freq": updates,
    "trainer.resume_mode": one_of("auto", "disable", "resume_path"),
    "trainer.resume_from_path": elsewhere,
    "trainer.val_before_train": flag,
    "trainer.default_local_dir": text,
    "transfer_queue.backend.SimpleStorage.total_storage_size": whole(),
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": whole(),
    "ray_kwargs.ray_init.address": optional(text),
    "ray_kwargs.ray_init.num_cpus": optional(whole()),
    "ray_kwargs.ray_init.num_gpus": optional(whole()),
    "ray_kwargs.ray_init.include_dashboard": flag,
    "ray_kwargs.ray_init.object_store_memory": optional(whole(80_000_000)),
    "ray_kwargs.ray_init._temp_dir": text,
    "ray_kwargs.ray_init.runtime_env.env_vars.": text,
    "ray_kwargs.ray_init.runtime_env.working_dir": text,
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
