"""Which keys of a run may be set, and their allowed values.

A run reads a few hundred of verl's config keys and supports only one value for many of them. `FREE` lists the keys
that may be set, each with its rule. Every other key must keep its default, so that no setting is silently ignored. To
open a key, add it here with a rule and a run that shows that it works. `reasons` says why a key is closed.
"""

from __future__ import annotations

from prefix_opd.checks.rules import (
    Rule,
    elsewhere,
    flag,
    list_of,
    name_of_a_folder,
    number,
    one_of,
    optional,
    text,
    whole,
)
from prefix_opd.config.keys import ATTENTION_KEY, PACKED_ATTENTION
from prefix_opd.method.objective import OBJECTIVES

TRACKERS = (
    "clearml",
    "console",
    "file",
    "mlflow",
    "rl_insight",
    "swanlab",
    "tensorboard",
    "trackio",
    "vemlp_wandb",
    "wandb",
)
"""verl's trackers (verl/utils/tracking.py: Tracking.supported_backend)."""

_DTYPES = ("float32", "bfloat16", "float16")
_PRECISIONS = ("fp32", "bf16")

DATA: dict[str, Rule] = {
    "data.train_files": elsewhere,
    "data.val_files": elsewhere,
    "data.train_max_samples": whole(1, also=(-1,)),
    "data.val_max_samples": whole(1, also=(-1,)),
    "data.prompt_key": text,
    "data.max_prompt_length": whole(),
    "data.max_response_length": whole(),
    "data.train_batch_size": whole(),
    "data.val_batch_size": whole(1, also=(None,)),
    "data.shuffle": flag,
    "data.validation_shuffle": flag,
    "data.seed": whole(0, also=(None,)),
    "data.dataloader_num_workers": whole(0),
    "data.filter_overlong_prompts": flag,
    "data.filter_overlong_prompts_workers": whole(1, also=(None,)),
    "data.truncation": one_of("error", "left", "right", "middle"),
    "data.apply_chat_template_kwargs.": elsewhere,
}

_ACTOR = "actor_rollout_ref.actor."
ACTOR: dict[str, Rule] = {
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
    _ACTOR + "loss_scale_factor": whole(1, also=(None,)),
    _ACTOR + "shuffle": flag,
    _ACTOR + "data_loader_seed": whole(0),
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
    _ACTOR + "fsdp_config.model_dtype": one_of("fp32", "bf16"),
    _ACTOR + "fsdp_config.seed": whole(0),
    _ACTOR + "fsdp_config.use_torch_compile": flag,
    _ACTOR + "fsdp_config.use_no_sync_for_gradient_accumulation": flag,
    _ACTOR + "fsdp_config.mixed_precision.param_dtype": one_of(*_PRECISIONS),
    _ACTOR + "fsdp_config.mixed_precision.reduce_dtype": one_of(*_PRECISIONS),
    _ACTOR + "fsdp_config.mixed_precision.buffer_dtype": one_of(*_PRECISIONS),
}


_TEACHERLESS = ("k1", "kl")


def _objective(value: object) -> str:
    """A registered objective, including the user's own."""
    if not isinstance(value, str) or value not in OBJECTIVES:
        return f"must be one of {', '.join(sorted(set(OBJECTIVES) - set(_TEACHERLESS)))}"
    # verl/trainer/distillation/losses.py differentiates the estimator log p - log q itself
    return "has a gradient in which the teacher does not occur" if value in _TEACHERLESS else ""


def _engine(prefix: str) -> dict[str, Rule]:
    """Keys that the engines of student and teacher share."""
    rules: dict[str, Rule] = {
        "dtype": one_of(*_DTYPES),
        "gpu_memory_utilization": number(above=0, most=1, none=True),
        "enforce_eager": flag,
        "cudagraph_capture_sizes": optional(list_of(whole())),
        "free_cache_engine": flag,
        "enable_sleep_mode": flag,
        "tensor_model_parallel_size": whole(),
        "max_num_batched_tokens": whole(),
        "max_model_len": elsewhere,
        "max_num_seqs": whole(),
        "enable_chunked_prefill": flag,
        "enable_prefix_caching": flag,
        "disable_log_stats": flag,
        "engine_kwargs.vllm.kv_cache_memory_bytes": whole(),
        "engine_kwargs.vllm.max_logprobs": whole(),
        "engine_kwargs.vllm.disable_custom_all_reduce": flag,
        "engine_kwargs.vllm.async_scheduling": flag,
    }
    return {prefix + name: rule for name, rule in rules.items()}


_ROLLOUT = "actor_rollout_ref.rollout."
ROLLOUT: dict[str, Rule] = {
    **_engine(_ROLLOUT),
    _ROLLOUT + "temperature": number(above=0),
    _ROLLOUT + "top_k": whole(1, also=(-1,)),
    _ROLLOUT + "top_p": number(above=0, most=1),
    _ROLLOUT + "seed": whole(0),
    _ROLLOUT + "ignore_eos": flag,
    _ROLLOUT + "n": whole(),
    _ROLLOUT + "calculate_log_probs": flag,
    _ROLLOUT + "log_prob_max_token_len_per_gpu": whole(),
    _ROLLOUT + "val_kwargs.temperature": number(least=0),
    _ROLLOUT + "val_kwargs.top_p": number(above=0, most=1),
    _ROLLOUT + "val_kwargs.top_k": whole(1, also=(-1,)),
    _ROLLOUT + "val_kwargs.n": whole(),
    _ROLLOUT + "val_kwargs.do_sample": flag,
    _ROLLOUT + "agent.num_workers": whole(),
    _ROLLOUT + "agent.agent_loop_manager_class": elsewhere,
    _ROLLOUT + "agent.default_agent_loop": elsewhere,
    _ROLLOUT + "checkpoint_engine.update_weights_bucket_megabytes": whole(),
}

TEACHER = "distillation.teacher_models.teacher_model."
DISTILLATION: dict[str, Rule] = {
    "distillation.n_gpus_per_node": whole(),
    "distillation.nnodes": whole(),
    TEACHER + "model_path": elsewhere,
    **_engine(TEACHER + "inference."),
    "distillation.distillation_loss.loss_mode": _objective,
    "distillation.distillation_loss.topk": whole(),
    "distillation.distillation_loss.loss_max_clamp": number(above=0, none=True),
    "distillation.distillation_loss.log_prob_min_clamp": number(most=0, none=True),
}

NAMED_TEACHER: dict[str, Rule] = {"key": text, "num_replicas": whole()}
"""Keys that are open where a run has several teachers (`prefix_opd.config.teachers`)."""

RUN: dict[str, Rule] = {
    "platform": one_of("cpu", "gpu"),
    "prefix_opd.": elsewhere,
    "reward.num_workers": whole(),
    "reward.custom_reward_function.path": elsewhere,
    "reward.custom_reward_function.name": elsewhere,
    "reward.custom_reward_function.reward_kwargs.": elsewhere,
    "trainer.balance_batch": flag,
    "trainer.total_epochs": whole(),
    "trainer.total_training_steps": whole(),
    "trainer.project_name": text,
    "trainer.experiment_name": name_of_a_folder,
    "trainer.logger": elsewhere,
    "trainer.log_val_generations": whole(0),
    "trainer.validation_data_dir": optional(text),
    "trainer.nnodes": whole(),
    "trainer.n_gpus_per_node": whole(),
    "trainer.save_freq": elsewhere,
    "trainer.test_freq": elsewhere,
    "trainer.resume_mode": elsewhere,
    "trainer.resume_from_path": elsewhere,
    "trainer.val_before_train": flag,
    "trainer.default_local_dir": elsewhere,
    "transfer_queue.backend.SimpleStorage.total_storage_size": whole(),
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": whole(),
    "ray_kwargs.ray_init.address": optional(text),
    "ray_kwargs.ray_init.num_cpus": whole(1, also=(None,)),
    "ray_kwargs.ray_init.num_gpus": whole(1, also=(None,)),
    "ray_kwargs.ray_init.include_dashboard": flag,
    "ray_kwargs.ray_init.object_store_memory": whole(80_000_000, also=(None,)),
    "ray_kwargs.ray_init._temp_dir": text,
    "ray_kwargs.ray_init.runtime_env.env_vars.": text,
    "ray_kwargs.ray_init.runtime_env.working_dir": text,
}

FREE: dict[str, Rule] = {**DATA, **ACTOR, **ROLLOUT, **DISTILLATION, **RUN}
"""Key -> rule. A name that ends with a dot covers all keys below it."""

CPU_CLOSED = (
    ATTENTION_KEY,
    "actor_rollout_ref.model.use_remove_padding",
    "actor_rollout_ref.rollout.enforce_eager",
    "actor_rollout_ref.rollout.free_cache_engine",
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "actor_rollout_ref.rollout.enable_chunked_prefill",
    "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "actor_rollout_ref.rollout.cudagraph_capture_sizes",
    "actor_rollout_ref.actor.fsdp_config.param_offload",
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload",
    "actor_rollout_ref.actor.fsdp_config.offload_policy",
    "distillation.teacher_models.teacher_model.inference.enforce_eager",
    "distillation.teacher_models.teacher_model.inference.free_cache_engine",
    "distillation.teacher_models.teacher_model.inference.enable_sleep_mode",
    "distillation.teacher_models.teacher_model.inference.tensor_model_parallel_size",
    "distillation.teacher_models.teacher_model.inference.cudagraph_capture_sizes",
    "trainer.nnodes",
    "ray_kwargs.ray_init.address",
)
"""Keys that must keep their default without a GPU."""
