"""Why a key is closed, by the key or a node above it. The longest matching name counts."""

from __future__ import annotations

_TEACHER = "distillation.teacher_models.teacher_model."
_OWN_ADVANTAGE = "the advantage is log p_teacher - log p_student, and nothing else is estimated"
_LOSS = "the loss is the distillation loss alone"
_CODE = "would run code that no check has looked at"
_FUSED = "the loss reads logits, which these kernels do not return; set prefix_opd.update.fused_head"
_ENGINE = "an engine is split by actor_rollout_ref.rollout.tensor_model_parallel_size alone"
_LOG_PROBS = "recomputed log-probs use the update's micro-batches: actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
_LOOP = "turns are made by a class of yours: actor_rollout_ref.rollout.agent.default_agent_loop=MODULE.CLASS"
_STALE = "verl leaves the copy in /dev/shm, and a later run reads it in place of changed files of the same size"
REASONS: dict[str, str] = {
    "model_engine": "FSDP2 is the only engine that is supported",
    "critic": "there is no critic",
    "reward_model": "there is no reward model",
    "reward.reward_model": "there is no reward model",
    "reward.reward_manager": "the grader is called by verl's manager 'naive'; set reward.custom_reward_function",
    "custom_reward_function": "moved to reward.custom_reward_function",
    "sandbox_fusion": "no code is graded",
    "reward.sandbox_fusion": "no code is graded",
    "algorithm": _OWN_ADVANTAGE,
    "data.custom_cls": _CODE,
    "data.datagen": _CODE,
    "data.sampler": _CODE,
    "data.reward_fn_key": "verl's grader reads data_source whatever this key says",
    "data.gen_batch_size": "a step hands out data.train_batch_size prompts",
    "data.use_shm": _STALE,
    "data.tokenizer": "prompts are rendered with the student's tokenizer",
    "data.tool_config_path": _LOOP,
    "data.function_tool_path": _LOOP,
    "data.trust_remote_code": "actor_rollout_ref.model.trust_remote_code is the one switch",
    "actor_rollout_ref.ref": "there is no reference policy",
    "actor_rollout_ref.model.lora": "is Megatron's; FSDP2 reads actor_rollout_ref.model.lora_rank",
    "actor_rollout_ref.model.target_parameters": "an adapter is of linear layers alone",
    "actor_rollout_ref.model.tokenizer_path": "verl would load it with trust_remote_code=true in its reward workers",
    "actor_rollout_ref.model.hf_config_path": "the config must be that of actor_rollout_ref.model.path",
    "actor_rollout_ref.model.external_lib": _CODE,
    "actor_rollout_ref.model.use_liger": "Liger's kernels are not among the requirements, and no run has compared them",
    "actor_rollout_ref.model.use_fused_kernels": _FUSED,
    "actor_rollout_ref.model.enable_activation_offload": (
        "no run on a GPU has tried it; set actor_rollout_ref.model.enable_gradient_checkpointing"
    ),
    "actor_rollout_ref.model.use_shm": _STALE,
    "actor_rollout_ref.model.mtp": "draft heads are not trained",
    "actor_rollout_ref.model.override_config": "the engines would run the model without that override",
    "actor_rollout_ref.actor.strategy": "fsdp2 is the only strategy that is supported",
    "actor_rollout_ref.actor.entropy_coeff": _LOSS,
    "actor_rollout_ref.actor.calculate_entropy": _LOSS,
    "actor_rollout_ref.actor.use_kl_loss": _LOSS,
    "actor_rollout_ref.actor.kl_loss_coef": _LOSS,
    "actor_rollout_ref.actor.kl_loss_type": _LOSS,
    "actor_rollout_ref.actor.policy_loss": _LOSS,
    "actor_rollout_ref.actor.clip_ratio": "the importance ratio is truncated by prefix_opd.loss.max_ratio",
    "actor_rollout_ref.actor.clip_ratio_low": "the importance ratio is truncated by prefix_opd.loss.max_ratio",
    "actor_rollout_ref.actor.clip_ratio_high": "the importance ratio is truncated by prefix_opd.loss.max_ratio",
    "actor_rollout_ref.actor.clip_ratio_c": "the importance ratio is truncated by prefix_opd.loss.max_ratio",
    "actor_rollout_ref.actor.ppo_epochs": "FLOP and plan count one pass over a batch, as in the paper",
    "actor_rollout_ref.actor.use_dynamic_bsz": "micro-batches are cut by tokens: ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ppo_micro_batch_size": "micro-batches are cut by tokens: ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": (
        "micro-batches are cut by tokens: ppo_max_token_len_per_gpu"
    ),
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size": "sequences are not split among ranks",
    "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size": "sequences are not split among ranks",
    "actor_rollout_ref.actor.grad_clip": "FSDP2 reads actor_rollout_ref.actor.optim.clip_grad",
    "actor_rollout_ref.actor.entropy_from_logits_with_chunking": _LOSS,
    "actor_rollout_ref.actor.entropy_checkpointing": _LOSS,
    "actor_rollout_ref.actor.use_fused_kernels": _FUSED,
    "actor_rollout_ref.actor.fsdp_config.fsdp_size": "the student is sharded over all of its GPUs",
    "actor_rollout_ref.actor.fsdp_config.full_determinism": "verl's FSDP engine does not read it",
    "actor_rollout_ref.actor.checkpoint.async_save": "a checkpoint counts once all of it is written",
    "actor_rollout_ref.actor.optim.optimizer": "memory and checkpoints are planned for torch's AdamW",
    "actor_rollout_ref.actor.optim.optimizer_impl": "memory and checkpoints are planned for torch's AdamW",
    "actor_rollout_ref.actor.optim.total_training_steps": "follows from trainer.total_training_steps",
    "actor_rollout_ref.rollout.name": "vLLM is the only engine that is supported",
    "actor_rollout_ref.rollout.mode": "verl 0.9.1 knows the mode async alone",
    "actor_rollout_ref.rollout.logprobs_mode": (
        "log-probs must be of the distribution that is sampled: raw logits make the importance ratio meaningless"
    ),
    "actor_rollout_ref.rollout.do_sample": "a rollout is a sample of the student",
    "actor_rollout_ref.rollout.multi_turn": _LOOP,
    "actor_rollout_ref.rollout.agent": _LOOP,
    "actor_rollout_ref.rollout.agent.custom_async_server": _CODE,
    "actor_rollout_ref.rollout.data_parallel_size": _ENGINE,
    "actor_rollout_ref.rollout.expert_parallel_size": _ENGINE,
    "actor_rollout_ref.rollout.pipeline_model_parallel_size": _ENGINE,
    "actor_rollout_ref.rollout.quantization": "the sampler would be another policy than the one that is trained",
    "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz": _LOG_PROBS,
    "actor_rollout_ref.rollout.log_prob_micro_batch_size": _LOG_PROBS,
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": _LOG_PROBS,
    "actor_rollout_ref.rollout.load_format": "the trainer sends the engine its weights",
    "actor_rollout_ref.rollout.prompt_length": "follows from data.max_prompt_length",
    "actor_rollout_ref.rollout.response_length": (
        "follows from data.max_response_length and prefix_opd.rollout.tool_tokens"
    ),
    "actor_rollout_ref.rollout.nnodes": "the engines share the trainer's GPUs",
    "actor_rollout_ref.rollout.n_gpus_per_node": "the engines share the trainer's GPUs",
    "distillation.enabled": "distillation is what a run does",
    "distillation.teacher_key": "rows choose their teacher by data_source",
    _TEACHER + "key": "one teacher scores all rows; name two or more others, distillation.teacher_models.NAME.key",
    _TEACHER + "num_replicas": "follows from distillation.n_gpus_per_node and the teacher's parallel size",
    _TEACHER + "inference": "the teacher scores the student's tokens with its own weights",
    "distillation.distillation_loss.use_task_rewards": "a prefix has no final answer to reward",
    "distillation.distillation_loss.distillation_loss_coef": _LOSS,
    "distillation.distillation_loss.use_policy_gradient": "the loss back-propagates the distillation loss itself",
    "distillation.distillation_loss.policy_loss_mode": "is read with use_policy_gradient=true alone",
    "trainer.rollout_data_dir": "verl dumps scored rollouts, and those of training have no score; see samples.jsonl",
    "trainer.v1": "the trainer is this package's, which is synchronous",
    "trainer.use_v1": "the trainer is this package's, for verl's V1",
    "trainer.device": "follows from platform",
    "trainer.critic_warmup": "there is no critic",
    "trainer.val_only": "use `prefix-opd evaluate`",
    "trainer.checkpoint_callback_class": _CODE,
    "trainer.max_actor_ckpt_to_keep": (
        "verl removes the old checkpoint before the new one counts; set prefix_opd.checkpoint.keep_last"
    ),
    "trainer.max_critic_ckpt_to_keep": "there is no critic",
    "trainer.del_local_ckpt_after_load": "a run that stops again would have nothing to go on from",
    "trainer.default_hdfs_dir": "checkpoints are kept in the run's folder",
    "global_profiler": "profiling is not supported",
    "skip": "a rollout that is read from a file is not the student's",
    "ray_kwargs.ray_init.runtime_env": "the processes of a run have the environment of the command",
    "prefix_opd.stop_token_ids": "is filled in from the models; set prefix_opd.rollout.stop",
    "prefix_opd.ignore_own_end_token": "is filled in from the models; set prefix_opd.rollout.stop",
}
