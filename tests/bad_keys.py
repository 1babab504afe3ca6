"""Overrides of one key that is refused: rows of the tables in test_surface.py and test_bad_input.py."""

TRAIN = ["train", "experiment=tiny/schedule"]
GPU = ["train", "experiment=tiny/schedule", "platform=gpu"]
ACTOR = "actor_rollout_ref.actor"
ROLLOUT = "actor_rollout_ref.rollout"
MODEL = "actor_rollout_ref.model"
LOSS = "distillation.distillation_loss"
TEACHERS = "distillation.teacher_models"
TEACHER = f"{TEACHERS}.teacher_model"
LOOP = f"{ROLLOUT}.agent.default_agent_loop"
TOOLS = "prefix_opd.rollout.tool_tokens"
RAY = "ray_kwargs.ray_init"
STORAGE = "transfer_queue.backend.SimpleStorage"
SHARED, TURNS = "prefix_opd.teacher.placement=shared", "prefix_opd.teacher.phases=turns"
SDPA = f"+{MODEL}.override_config.attn_implementation=sdpa"

IGNORED = [
    ([f"{LOSS}.use_policy_gradient=true"], "use_policy_gradient=true: the loss back-propagates the distillation loss"),
    ([f"{LOSS}.loss_mode=k1"], f"{LOSS}.loss_mode=k1: has a gradient that does not depend on the teacher"),
    (
        [f"{LOSS}.loss_mode=reverse_kl"],
        f"{LOSS}.loss_mode=reverse_kl: must be one of abs, forward_kl_topk, iw_opd, jsd_topk",
    ),
    ([f"{LOSS}.loss_mode=null"], f"{LOSS}.loss_mode=null: must be one of abs, forward_kl_topk"),
    ([f"{LOSS}.use_task_rewards=true"], "use_task_rewards=true: a prefix has no final answer to reward"),
    ([f"{LOSS}.distillation_loss_coef=0.5"], "distillation_loss_coef=0.5: the loss is only the distillation loss"),
    ([f"+{LOSS}.student_log_prob=current"], "student_log_prob=current: is not a setting that a run"),
    ([f"{LOSS}.topk=0"], f"{LOSS}.topk=0: must be a whole number of at least 1"),
    ([f"{ACTOR}.entropy_coeff=0.01"], f"{ACTOR}.entropy_coeff=0.01: the loss is only the distillation loss"),
    ([f"{ACTOR}.use_kl_loss=true"], f"{ACTOR}.use_kl_loss=true: the loss is only the distillation loss"),
    ([f"{ACTOR}.kl_loss_coef=1"], f"{ACTOR}.kl_loss_coef=1: the loss is only the distillation loss"),
    ([f"{ACTOR}.policy_loss.loss_mode=gspo"], "policy_loss.loss_mode=gspo: the loss is only the distillation loss"),
    ([f"{ACTOR}.clip_ratio=0.1"], f"{ACTOR}.clip_ratio=0.1: the importance ratio is truncated by prefix_opd.loss"),
    ([f"{ACTOR}.ppo_epochs=2"], f"{ACTOR}.ppo_epochs=2: FLOP and plan count one pass"),
    ([f"{ACTOR}.use_dynamic_bsz=false"], "use_dynamic_bsz=false: micro-batches are cut by tokens"),
    (["algorithm.use_kl_in_reward=true"], "algorithm.use_kl_in_reward=true: the advantage is log p_teacher"),
    (["algorithm.adv_estimator=gae"], "algorithm.adv_estimator=gae: the advantage is log p_teacher"),
    (["algorithm.gamma=0.9"], "algorithm.gamma=0.9: the advantage is log p_teacher"),
    (["algorithm.rollout_correction.bypass_mode=true"], "bypass_mode=true: the advantage is log p_teacher"),
    (["algorithm.filter_groups.enable=true"], "filter_groups.enable=true: the advantage is log p_teacher"),
    (["critic.enable=true"], "critic.enable=true: there is no critic; leave it at null"),
    (["critic.optim.lr=1"], "critic.optim.lr=1: there is no critic"),
    (["reward_model.enable=true"], "reward_model.enable=true: there is no reward model"),
    (["reward.reward_model.enable=true"], "reward.reward_model.enable=true: there is no reward model"),
    (["reward.reward_manager.name=dapo"], "reward.reward_manager.name=dapo: the grader is called by verl's manager"),
    (["custom_reward_function.path=x.py"], "custom_reward_function.path=x.py: moved to reward.custom_reward_function"),
    (["actor_rollout_ref.ref.strategy=fsdp"], "actor_rollout_ref.ref.strategy=fsdp: there is no reference policy"),
    (["trainer.critic_warmup=5"], "trainer.critic_warmup=5: there is no critic"),
    (["trainer.val_only=true"], "trainer.val_only=true: use `prefix-opd evaluate`"),
    (["trainer.v1.trainer_mode=sync"], "trainer.v1.trainer_mode=sync: the trainer is this package's"),
    (["trainer.v1.sampler.max_off_policy_threshold=1"], "max_off_policy_threshold=1: the trainer is this package's"),
    (["trainer.use_v1=false"], "trainer.use_v1=false: the trainer is this package's"),
    (["trainer.max_actor_ckpt_to_keep=1"], "max_actor_ckpt_to_keep=1: verl removes the old checkpoint before"),
    (["trainer.rollout_data_dir=/tmp/x"], "trainer.rollout_data_dir=/tmp/x: verl dumps scored rollouts"),
    (["global_profiler.tool=torch"], "global_profiler.tool=torch: profiling is not supported"),
    (["skip.rollout.enable=true"], "skip.rollout.enable=true: a rollout that is read from a file is not the student's"),
    (["data.gen_batch_size=4"], "data.gen_batch_size=4: a step hands out data.train_batch_size prompts"),
    (["data.reward_fn_key=source"], "data.reward_fn_key=source: verl's grader reads data_source"),
    (["data.return_raw_chat=false"], "data.return_raw_chat=false: only the default is supported; leave it at true"),
    (["+data.nonsense=1"], "data.nonsense=1: is not a setting that a run reads; leave it out"),
    ([f"+{ROLLOUT}.repetition_penalty=1.1"], "repetition_penalty=1.1: is not a setting that a run reads"),
    (["~data.shuffle"], "data.shuffle: was removed, but a run reads it; leave it at true"),
    (["~trainer.v1"], "trainer.v1=null: is a group of settings"),
    (["prefix_opd.stop_token_ids=[3]"], "prefix_opd.stop_token_ids=[3]: is filled in from the models"),
]
"""Settings that a run supports at one value only."""

NOT_WHOLE = [
    ([f"{MODEL}.lora.rank=8"], f"{MODEL}.lora.rank=8: is Megatron's; FSDP2 reads actor_rollout_ref.model.lora_rank"),
    ([f"+{MODEL}.target_parameters=[x]"], "target_parameters=['x']: an adapter has only linear layers"),
    ([f"{MODEL}.mtp.enable=true"], f"{MODEL}.mtp.enable=true: draft heads are not trained"),
    ([f"{MODEL}.use_fused_kernels=true"], f"{MODEL}.use_fused_kernels=true: the loss reads logits"),
    ([f"+{TEACHERS}.second.nonsense=x"], "second.nonsense=x: is not a setting that a run reads"),
    ([f"+{TEACHERS}.second.inference.name=sglang"], "second.inference.name=sglang: the teacher scores the student's"),
    ([f"{TEACHER}.key=math"], f"{TEACHER}.key=math: one teacher scores all rows; name two or more others"),
    ([f"{TEACHER}.num_replicas=2"], "num_replicas=2: follows from distillation.n_gpus_per_node"),
    (["distillation.teacher_key=kind"], "distillation.teacher_key=kind: rows choose their teacher by data_source"),
    (["distillation.enabled=false"], "distillation.enabled=false: distillation is what a run does"),
    ([f"{ROLLOUT}.name=sglang"], f"{ROLLOUT}.name=sglang: vLLM is the only engine that is supported"),
    ([f"{ROLLOUT}.mode=sync"], f"{ROLLOUT}.mode=sync: async is the only mode of verl 0.9.1"),
    ([f"{ROLLOUT}.logprobs_mode=raw_logits"], "logprobs_mode=raw_logits: log-probs must be of the distribution that"),
    ([f"{ROLLOUT}.multi_turn.enable=true"], f"{ROLLOUT}.multi_turn.enable=true: turns are made by a class of yours"),
    ([f"{ROLLOUT}.load_format=auto"], f"{ROLLOUT}.load_format=auto: the trainer sends the engine its weights"),
    ([f"{ROLLOUT}.quantization=fp8"], f"{ROLLOUT}.quantization=fp8: the sampler would be another policy"),
    ([f"{ROLLOUT}.data_parallel_size=2"], f"{ROLLOUT}.data_parallel_size=2: an engine is split only by"),
    ([f"{ROLLOUT}.disaggregation.enabled=true"], "disaggregation.enabled=true: only the default is supported"),
    ([f"+{ROLLOUT}.engine_kwargs.vllm.nonsense=1"], "engine_kwargs.vllm.nonsense=1: is not a setting that a run reads"),
    ([f"{ACTOR}.strategy=fsdp"], f"{ACTOR}.strategy=fsdp: fsdp2 is the only strategy that is supported"),
    ([f"{ACTOR}.ulysses_sequence_parallel_size=2"], "ulysses_sequence_parallel_size=2: sequences are not split"),
    ([f"{ACTOR}.optim.optimizer=SGD"], f"{ACTOR}.optim.optimizer=SGD: memory and checkpoints are planned for"),
    ([f"{ACTOR}.fsdp_config.qat.enable=true"], "qat.enable=true: only the default is supported"),
    ([f"{ACTOR}.checkpoint.async_save=true"], "async_save=true: a checkpoint is complete once all of it is written"),
    ([f"{ROLLOUT}.free_cache_engine=true"], "free_cache_engine=true: has one value on platform=cpu; leave it at false"),
    ([f"{ROLLOUT}.enable_chunked_prefill=true"], "enable_chunked_prefill=true: has one value on platform=cpu"),
]
"""Features that are rejected because they do not work everywhere yet."""

VALUES = [
    ([f"{ACTOR}.optim.lr=abc"], f"{ACTOR}.optim.lr=abc: must be a number above 0"),
    ([f"{ACTOR}.optim.lr=0"], f"{ACTOR}.optim.lr=0: must be a number above 0"),
    ([f"{ACTOR}.optim.lr=inf"], f"{ACTOR}.optim.lr=inf: must be a number above 0"),
    ([f"{ACTOR}.optim.betas=[0.9]"], f"{ACTOR}.optim.betas=[0.9]: must be a list of 2"),
    ([f"{ACTOR}.optim.betas=[0.9,1]"], "each entry must be a number at least 0 and at most 0.999999"),
    ([f"{ACTOR}.optim.weight_decay=-1"], "weight_decay=-1: must be a number at least 0"),
    ([f"{ACTOR}.optim.clip_grad=null"], "clip_grad=null: must be a number above 0"),
    ([f"{ACTOR}.optim.lr_scheduler_type=linear"], "lr_scheduler_type=linear: must be constant or cosine"),
    ([f"{ACTOR}.optim.lr_warmup_steps=few"], "lr_warmup_steps=few: must be a whole number of at least -1"),
    ([f"{ACTOR}.loss_agg_mode=mean"], f"{ACTOR}.loss_agg_mode=mean: must be token-mean, token-sum"),
    ([f"{ACTOR}.fsdp_config.model_dtype=int8"], "model_dtype=int8: must be fp32 or bf16"),
    ([f"{ROLLOUT}.val_kwargs.n=0"], f"{ROLLOUT}.val_kwargs.n=0: must be a whole number of at least 1"),
    ([f"{ROLLOUT}.val_kwargs.temperature=-1"], "val_kwargs.temperature=-1: must be a number at least 0"),
    ([f"{ROLLOUT}.val_kwargs.top_p=0"], "val_kwargs.top_p=0: must be a number above 0 and at most 1"),
    ([f"{ROLLOUT}.gpu_memory_utilization=80"], "gpu_memory_utilization=80: must be a number above 0 and at most 1"),
    ([f"{ROLLOUT}.max_num_seqs=0"], f"{ROLLOUT}.max_num_seqs=0: must be a whole number of at least 1"),
    ([f"{ROLLOUT}.dtype=int4"], f"{ROLLOUT}.dtype=int4: must be float32, bfloat16 or float16"),
    ([f"{ROLLOUT}.seed={2**32}"], "seed=4294967296: must be a whole number of at least 0 and at most 4294967295"),
    ([f"data.seed={10**20}"], "data.seed=100000000000000000000: must be a whole number of at least 0 and at most 922"),
    (["reward.num_workers=9999"], "reward.num_workers=9999: must be a whole number of at least 1 and at most 1024"),
    ([f"{ROLLOUT}.seed=-1"], f"{ROLLOUT}.seed=-1: must be a whole number of at least 0"),
    ([f"{ROLLOUT}.agent.num_workers=0"], f"{ROLLOUT}.agent.num_workers=0: must be a whole number of at least 1"),
    ([f"{MODEL}.lora_rank=-1"], f"{MODEL}.lora_rank=-1: must be a whole number of at least 0"),
    ([f"{MODEL}.lora_alpha=large"], f"{MODEL}.lora_alpha=large: must be a whole number of at least 1"),
    ([f"{MODEL}.lora.merge=yes"], f"{MODEL}.lora.merge=yes: must be true or false"),
    ([f"{MODEL}.trust_remote_code=1"], f"{MODEL}.trust_remote_code=1: must be true or false"),
    ([f"{MODEL}.override_config.attn_implementation=flash"], "has one value on platform=cpu; leave it at sdpa"),
    ([f"+{MODEL}.override_config.rope_theta=1"], "rope_theta=1: the engines would run the model without that override"),
    (["data.train_max_samples=0"], "data.train_max_samples=0: must be a whole number of at least 1, or -1"),
    (["data.truncation=left"], "data.truncation=left: no prompt is cut; data.filter_overlong_prompts drops those"),
    (["trainer.balance_batch=false"], "trainer.balance_batch=false: verl's V1 trainer always balances"),
    (["actor_rollout_ref.nccl_timeout=1200"], "actor_rollout_ref.nccl_timeout=1200: only verl's critic reads it"),
    ([f"{ACTOR}.fsdp_config.seed=1"], f"{ACTOR}.fsdp_config.seed=1: verl reads it only for full determinism"),
    ([f"{ACTOR}.fsdp_config.mixed_precision.buffer_dtype=bf16"], "mixed_precision.buffer_dtype=bf16: FSDP2 has none"),
    (["data.shuffle=maybe"], "data.shuffle=maybe: must be true or false"),
    (["data.dataloader_num_workers=-1"], "data.dataloader_num_workers=-1: must be a whole number of at least 0"),
    (["data.dataloader_num_workers=2000"], "num_workers=2000: must be a whole number of at least 0 and at most 1024"),
    (["trainer.total_training_steps=2000000"], "steps=2000000: must be a whole number of at least 1 and"),
    ([f"{STORAGE}.num_data_storage_units=2000"], "units=2000: must be a whole number of at least 1 and at most 1024"),
    ([f"{STORAGE}.total_storage_size={2**63}"], f"size={2**63}: must be a whole number of at least 1 and at most 922"),
    ([f"{ROLLOUT}.max_num_seqs={2**63}"], f"max_num_seqs={2**63}: must be a whole number of at least 1 and at most 9"),
    ([f"trainer.save_freq={2**63}"], f"save_freq={2**63}: must be a whole number of updates, or -1"),
    (["trainer.total_epochs=0"], "trainer.total_epochs=0: must be a whole number of at least 1"),
    (["trainer.experiment_name=''"], "trainer.experiment_name=: must be a text that is not empty"),
    (["trainer.experiment_name=a/b"], "trainer.experiment_name=a/b: must be one name, without a slash"),
    (["trainer.project_name=null"], "trainer.project_name=null: must be a text that is not empty"),
    (["trainer.val_before_train=maybe"], "trainer.val_before_train=maybe: must be true or false"),
]  # fmt: skip
"""Values of the wrong type, or that do not fit other settings."""

BY_KEY = [*IGNORED, *NOT_WHOLE, *VALUES]
