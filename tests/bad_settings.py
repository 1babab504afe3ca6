"""Settings that verl accepts but a run ignores, crashes on or is spoilt by: (arguments, text of the error)."""

from bad_keys import (
    ACTOR,
    BY_KEY,
    GPU,
    LOOP,
    LOSS,
    MODEL,
    RAY,
    ROLLOUT,
    SHARED,
    TEACHER,
    TEACHERS,
    TOOLS,
    TRAIN,
    TURNS,
)

TOGETHER = [
    (["+data.apply_chat_template_kwargs.tokenize=true"], "kwargs.tokenize=True: is not a variable of"),
    (["prefix_opd.rollout.timeout_seconds=0.0001"], "prefix_opd.rollout.timeout_seconds=0.0001: is less than the "),
    ([f"{LOSS}.loss_max_clamp=10"], f"{LOSS}.loss_max_clamp=10: would clamp advantages times a ratio"),
    ([f"{LOSS}.log_prob_min_clamp=-10"], f"{LOSS}.log_prob_min_clamp=-10: would clamp advantages times a ratio"),
    ([f"{ACTOR}.loss_scale_factor=8"], "loss_scale_factor=8: is read only with loss_agg_mode=seq-mean-token-sum-norm"),
    ([f"{ACTOR}.checkpoint.save_contents=[model,extra,hf_model]"], "lacks optimizer: no run could go on from such"),
    ([f"{ROLLOUT}.max_num_seqs=9000"], "max_num_seqs=9000: exceeds max_num_batched_tokens=8192"),
    ([f"{ROLLOUT}.log_prob_max_token_len_per_gpu=300"], "300: is read only with prefix_opd.advantage.student_log"),
    ([f"{ROLLOUT}.log_prob_max_token_len_per_gpu=200"], "200: holds no sequence of prompt + response = 224"),
    ([f"{ROLLOUT}.log_prob_max_token_len_per_gpu=40000"], "exceeds ppo_max_token_len_per_gpu=32768, which memory"),
    (["trainer.n_gpus_per_node=2", f"{ROLLOUT}.n=1", f"{ACTOR}.ppo_mini_batch_size=1"],
     "ppo_mini_batch_size=1: 1 prompts x n=1 rollouts do not divide among 2 ranks; change it, actor_rollout_ref"),
    (["data.train_max_samples=8"], "data.train_max_samples=8: is less than data.train_batch_size=16"),
    (["data.train_files={few40}", "trainer.total_epochs=1"], "ends the run after 2 of 55 updates"),
    (["prefix_opd.weighting.name=window", "prefix_opd.weighting.start=110", "prefix_opd.weighting.stop=120"],
     "counts no token of any rollout: L is at most 109 in 55 updates"),
    (["prefix_opd.weighting.name=inverse_probability"],
     "weighting.name=inverse_probability: needs a schedule that draws L at random, and prefix_opd.schedule"),
    (["prefix_opd.schedule.name=random", "prefix_opd.schedule.top=193"],
     "prefix_opd.schedule.top=193: exceeds data.max_response_length=192"),
    (["prefix_opd.schedule.name=random", "prefix_opd.schedule.least=30", "prefix_opd.schedule.top=20"],
     "top=20 is below least=30; raise the one or lower the other"),
    (["prefix_opd.schedule.name=tail", "prefix_opd.probe.every=0"],
     "prefix_opd.probe.every=0: leaves prefix_opd.schedule.name=tail without the probes that it observes; set it to a"),
    (["prefix_opd.schedule.name=validation", "trainer.test_freq=55"],
     "trainer.test_freq=55: leaves prefix_opd.schedule.name=validation without the validations during training that"),
    (["prefix_opd.schedule.name=prune_opd"], f"{LOSS}.loss_mode=prefix_opd: leaves prefix_opd.schedule.name=prune_opd"),
    (["prefix_opd.schedule.name=signal", f"{LOSS}.loss_mode=jsd_topk", f"{LOSS}.topk=8", "prefix_opd.probe.every=0"],
     f"{LOSS}.loss_mode=jsd_topk: leaves prefix_opd.schedule.name=signal without the teacher's log-probs"),
    (["prefix_opd.schedule.name=fast_opd", "prefix_opd.schedule.start=193"], "schedule.start=193: exceeds data.max_r"),
    (["prefix_opd.flop_budget=1e6"], "prefix_opd.flop_budget=1e+06: is less than the "),
    (["prefix_opd.flop_budget=-1"], "prefix_opd.flop_budget=-1: input should be greater than 0"),
    (["prefix_opd.loss.gamma=0.5"], f"prefix_opd.loss.gamma: is not read by {LOSS}.loss_mode=prefix_opd"),
    (["prefix_opd.loss.drop=0.1"], f"prefix_opd.loss.drop: is not read by {LOSS}.loss_mode=prefix_opd"),
    (["prefix_opd.weighting.largest=0.5"], "prefix_opd.weighting.largest=0.5: input should be greater than or equal"),
]  # fmt: skip
"""Settings that are valid separately but not together."""


PLACED = [
    (["prefix_opd.teacher.placement=mine"], "prefix_opd.teacher.placement=mine: input should be 'own' or 'shared'"),
    ([SHARED, TURNS, "prefix_opd.rollout.off_policy_steps=1", "prefix_opd.advantage.student_log_prob=current"],
     "prefix_opd.rollout.off_policy_steps=1: samples and scores during the update, and prefix_opd.teacher.phases"),
    ([SHARED, f"{TEACHER}.inference.free_cache_engine=true"], "free_cache_engine=true: has one value on platform=cpu"),
    ([SHARED, "trainer.n_gpus_per_node=3", f"{RAY}.num_gpus=2", "data.train_batch_size=24"],
     f"{RAY}.num_gpus=2: the run asks Ray for 3: 3 for the student (trainer.n_gpus_per_node x nnodes); set it to 3"),
]  # fmt: skip
"""Where the teacher lives, and when it scores."""

LORA = [
    ([f"{MODEL}.lora_alpha=32"], f"{MODEL}.lora_alpha=32: is read only by a LoRA student; set {MODEL}.lora_rank"),
    ([f"{MODEL}.lora_adapter_path={{adapter}}"], f"{MODEL}.lora_adapter_path={{adapter}}: is read only by"),
    ([f"{MODEL}.lora_rank=513"], f"{MODEL}.lora_rank=513: vLLM takes adapters up to rank 512; lower it, or set"),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.lora.merge=true"], f"{MODEL}.lora.merge=true: verl sends merged weights in"),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.target_modules=[q_proj,w_pack]"], "w_pack is not a linear layer; give all"),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.target_modules=q_proj"], "target_modules=q_proj: is not a list of linear"),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.exclude_modules=5"], "exclude_modules=5: is not a list of linear layers"),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.target_modules=null"], "target_modules=None: leaves no layer to adapt"),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.target_modules=[q_proj]", f"{MODEL}.exclude_modules=[q_proj]"],
     "target_modules=['q_proj']: leaves no layer to adapt"),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.path={{fused}}"], "are down_proj, gate_proj, o_proj, qkv_proj, up_proj (k_"),
    ([f"{MODEL}.lora_rank=4", f"+{ACTOR}.checkpoint.save_contents=[model,optimizer,extra,hf_model]"],
     "hf_model would hold the names of an adapted model"),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.lora_adapter_path=/x"], "lora_adapter_path=/x: is not an adapter: it has no"),
    *(
        ([f"{MODEL}.lora_rank=4", f"{MODEL}.lora_alpha=8", f"{MODEL}.lora_adapter_path={{{name}}}"], line)
        for name, line in {
            "other_base": "is an adapter of /models/Other, and the student is ",
            "other_rank": f"has rank 2, the run 4; set {MODEL}.lora_rank=2",
            "other_modules": f"; set {MODEL}.target_modules=[q_proj,v_proj]",
            "dora": "is not a plain LoRA adapter: it has use_dora=True",
            "other_sizes": "has 16896 weights, an adapter of ",
        }.items()
    ),
    ([f"{MODEL}.lora_rank=4", f"{MODEL}.lora_adapter_path={{adapter}}"], "has alpha 8, the run 16; set "),
]  # fmt: skip
"""LoRA students."""

SERVICES = [
    (["trainer.logger=[consol]"], "consol is not a tracker of verl; known: clearml, console"),
    (["trainer.logger=[console,clearml]"], "clearml needs the package clearml; pip install clearml"),
    (["trainer.logger=5"], "trainer.logger=5: 5 is not a tracker of verl"),
    (["reward.custom_reward_function.path=/no/such.py"], "path=/no/such.py: does not exist; give FILE.py, or pkg://"),
    (["reward.custom_reward_function.path=pkg://no.such.module"], "path=pkg://no.such.module: does not exist"),
    (["reward.custom_reward_function.path={no_parquet}"], "is not valid Python"),
    (["reward.custom_reward_function.name=grade_it"], "name=grade_it: is not defined in pkg://prefix_opd.grading"),
    ([f"{LOOP}=tool_agent"], f"{LOOP}=tool_agent: is not a class MODULE.CLASS that derives from"),
    ([f"{LOOP}=no_such_module.Mine"], f"{LOOP}=no_such_module.Mine: is not a class MODULE.CLASS that derives"),
    ([f"{LOOP}=prefix_opd.cpu.platform.Nobody"], f"{LOOP}=prefix_opd.cpu.platform.Nobody: is not a class MODULE.CLASS"),
    ([f"{LOOP}=null"], f"{LOOP}=None: is not a class MODULE.CLASS"),
    ([f"{TOOLS}=32"], f"{TOOLS}=32: makes room for tool outputs, but single_turn_agent has none; set {LOOP}=MODULE"),
    ([f"{TOOLS}=-1"], f"{TOOLS}=-1: input should be greater than or equal to 0"),
    ([f"{TOOLS}=1.5"], f"{TOOLS}=1.5: must be a whole number"),
    (["reward.custom_reward_function.path=null"], "path=null: must be a text that is not empty"),
    (["+reward.custom_reward_function.reward_kwargs.time_limit=5"], "reward_kwargs.time_limit: is not known; choose"),
    (["+reward.custom_reward_function.reward_kwargs.time_limit_s=abc"], "reward_kwargs.time_limit_s=abc: input should"),
    (["+reward.custom_reward_function.reward_kwargs.workers=0"], "reward_kwargs.workers=0: input should be greater"),
    ([f"{RAY}.num_cpus=12", "transfer_queue.backend.SimpleStorage.num_data_storage_units=8"],
     f"{RAY}.num_cpus=12: the run asks Ray for 16: 3 for each of 1 + 1 GPUs, 8 for transfer_queue"),
    ([f"{RAY}.num_gpus=1"], f"{RAY}.num_gpus=1: the run asks Ray for 2"),
    (["trainer.n_gpus_per_node=2"], f"{RAY}.num_gpus=2: the run asks Ray for 3"),
    ([f"{RAY}.num_cpus=many"], f"{RAY}.num_cpus=many: must be a whole number of at least 1, or null"),
    ([f"{RAY}.object_store_memory=1000"], "object_store_memory=1000: must be a whole number of at least 80000000"),
    ([f"+{RAY}.dashboard_host=0.0.0.0"], "dashboard_host=0.0.0.0: is not a setting that a run reads"),
    ([f"{RAY}.runtime_env.py_executable=/bin/sh"], "py_executable=/bin/sh: the processes of a run have the env"),
]  # fmt: skip
"""Trackers, the grader, agent loops, Ray."""

CODE = [
    ([f"{MODEL}.tokenizer_path={{own_code}}"], "verl would load it with trust_remote_code=true in its reward workers"),
    ([f"{MODEL}.hf_config_path={{own_code}}"], "the config must be that of actor_rollout_ref.model.path"),
    ([f"{MODEL}.external_lib=os"], f"{MODEL}.external_lib=os: would run code that no check has looked at"),
    (["data.custom_cls.path=x.py"], "data.custom_cls.path=x.py: would run code that no check has looked at"),
    ([f"{ROLLOUT}.agent.agent_loop_config_path=x.yaml"], "agent_loop_config_path=x.yaml: turns are made by a class of"),
    ([f"{ROLLOUT}.agent.custom_async_server.path=x.py"], "custom_async_server.path=x.py: would run code that no check"),
    (
        [f"{ROLLOUT}.agent.agent_loop_manager_class=a.B"],
        "agent_loop_manager_class=a.B: must be a class that derives from",
    ),
    (["trainer.checkpoint_callback_class=a.B"], "checkpoint_callback_class=a.B: would run code that no check"),
    ([f"{LOSS}._target_=os.system"], "_target_=os.system: names the class that verl builds; leave it at prefix_opd"),
    ([f"{ACTOR}._target_=os.system"], "_target_=os.system: names the class that verl builds; leave it at verl."),
    (["data.trust_remote_code=true"], "data.trust_remote_code=true: actor_rollout_ref.model.trust_remote_code is the"),
]
"""Every key by which verl loads code, except the grader and the models, which have separate checks."""

ON_A_GPU = [
    (["trainer.n_gpus_per_node=1", f"{ROLLOUT}.tensor_model_parallel_size=2"],
     f"{ROLLOUT}.tensor_model_parallel_size=2: must divide the 1 GPU of its engines; set it to 1, or choose"),
    ([f"{ROLLOUT}.tensor_model_parallel_size=4", f"{TEACHER}.inference.tensor_model_parallel_size=3"],
     f"{TEACHER}.inference.tensor_model_parallel_size=3: must divide the 1 GPU of its engines"),
    ([f"{ROLLOUT}.free_cache_engine=true", f"+{ROLLOUT}.enable_sleep_mode=false"],
     f"{ROLLOUT}.free_cache_engine=true: needs enable_sleep_mode=true"),
    ([SHARED, "distillation.n_gpus_per_node=2"],
     "distillation.n_gpus_per_node=2: differs from trainer.n_gpus_per_node=8, whose GPUs the teacher shares"),
    ([SHARED, "distillation.nnodes=2"], "distillation.nnodes=2: differs from trainer.nnodes=1"),
    ([SHARED, "trainer.n_gpus_per_node=1", f"{TEACHER}.inference.tensor_model_parallel_size=2"],
     f"{TEACHER}.inference.tensor_model_parallel_size=2: must divide the 1 GPU of its engines"),
    ([SHARED, TURNS, f"{TEACHER}.inference.free_cache_engine=false"],
     f"{TEACHER}.inference.free_cache_engine=false: keeps the engine awake in the turns of the others"),
    ([SHARED, TURNS, f"{ROLLOUT}.free_cache_engine=false"], f"{ROLLOUT}.free_cache_engine=false: keeps the engine"),
    ([SHARED, TURNS, f"+{TEACHER}.inference.enable_sleep_mode=false"],
     f"{TEACHER}.inference.free_cache_engine=true: needs enable_sleep_mode=true"),
    ([TURNS], "prefix_opd.teacher.phases=turns: leaves the teacher's GPUs idle while the student samples"),
    ([SHARED, "trainer.n_gpus_per_node=1"], "nvidia-smi shows 0 GPUs: the run asks for 1: 1 for the student"),
    ([SHARED, f"{ROLLOUT}.gpu_memory_utilization=1"],
     "GiB exceeds 79 GiB of a card; lower actor_rollout_ref.rollout.gpu_memory_utilization (null: what fits)"),
    ([SHARED, TURNS,
      f"+{TEACHER}.inference.engine_kwargs.vllm.kv_cache_memory_bytes=99000000000"],
     " GiB exceeds 79 GiB of a card; lower distillation.teacher_models"),
    ([SHARED, f"+{ROLLOUT}.engine_kwargs.vllm.kv_cache_memory_bytes=1000"], "left for its KV cache, and one sequence"),
    (["prefix_opd.accelerator=tpu"], "prefix_opd.accelerator=tpu: is not one of a100, h100"),
    ([f"+{ACTOR}.optim.override_optimizer_config.foreach=true"],
     "foreach=true: cannot be true beside fused=true; set"),
    ([f"{MODEL}.override_config.attn_implementation=torch_varlen", f"{MODEL}.use_remove_padding=false"],
     "attn_implementation=torch_varlen: needs packed sequences (actor_rollout_ref.model.use_remove_padding=true); set"),
    ([f"{MODEL}.override_config.attn_implementation=torch_varlen", "prefix_opd.patches_off=[packed_attention]"],
     "attn_implementation=torch_varlen: needs the patch packed_attention"),
    ([f"{MODEL}.override_config.attn_implementation=flash_attention_2"],
     "attn_implementation=flash_attention_2: needs the package flash_attn, which is not installed; install it, or set "
     "torch_varlen"),
]  # fmt: skip

SECOND = [f"+{TEACHERS}.b.key=sums", f"+{TEACHERS}.b.model_path=${{tiny:teacher}}"]
CHAIN = [f"+{TEACHERS}.a.key=tiny/chain", f"+{TEACHERS}.a.model_path=${{tiny:teacher}}", *SECOND]
SEVERAL = [
    ([f"+{TEACHERS}.b.model_path=x"], f"{TEACHERS}.b: stands alone beside teacher_model, which verl drops"),
    ([f"+{TEACHERS}.a.model_path=x", *SECOND], f"{TEACHERS}.a.key: is not set"),
    ([f"+{TEACHERS}.a.key=math", *SECOND], f"{TEACHERS}.a.model_path: is not set"),
    ([f"+{TEACHERS}.a.key=sums", f"+{TEACHERS}.a.model_path=x", *SECOND], "b.key=sums: is also the key of a"),
    ([f"+{TEACHERS}.a.key=math", f"+{TEACHERS}.a.model_path=x", *SECOND],
     "data_source tiny/chain: has no teacher, and 4096 rows have it (the teachers' keys are math, sums)"),
    (CHAIN, f"{TEACHERS}.b.key=sums: is the data_source of no training row (they have tiny/chain)"),
    ([*CHAIN, f"+{TEACHERS}.b.num_replicas=2"], "gives the teachers 2 GPUs, and their engines take 1 (tiny/chain) + 2"),
    ([*CHAIN, f"+{TEACHERS}.b.inference.enforce_eager=false"], "b.inference.enforce_eager=false: has one value on pla"),
    ([*CHAIN, "prefix_opd.teacher.placement=shared"], "gives the teachers 1 GPU, and their engines take 1 (tiny/ch"),
    ([*CHAIN, "prefix_opd.teacher.url=http://localhost:1/v1"], "localhost:1/v1: is one teacher of all rows, and dist"),
    ([*CHAIN, f"{TEACHERS}.teacher_model.model_path=x"],
     f"teacher_model.model_path: is not read beside {TEACHERS}.a, {TEACHERS}.b; set {TEACHERS}.a.model_path, or"),
    ([*CHAIN, f"{TEACHERS}.teacher_model={{model_path:x}}"], "teacher_model.model_path: is not read beside"),
    (["distillation.n_gpus_per_node=2"], "n_gpus_per_node=2: has one value on platform=cpu: a pretended GPU for each"),
]  # fmt: skip
"""Several teachers."""

INSTANCES = (
    f"{LOSS}.loss_mode=k1",
    f"{LOSS}.loss_mode=reverse_kl",
    f"{LOSS}.use_policy_gradient=true",
    f"{LOSS}.use_task_rewards=true",
    f"{ACTOR}.entropy_coeff=0.01",
    f"{ACTOR}.use_kl_loss=true",
    "algorithm.use_kl_in_reward=true",
    "algorithm.adv_estimator=gae",
    f"{ROLLOUT}.logprobs_mode=raw_logits",
    f"{ROLLOUT}.name=sglang",
    f"{ROLLOUT}.val_kwargs.n=0",
    f"{ACTOR}.optim.lr=abc",
    "distillation.enabled=false",
    "trainer.experiment_name=''",
    f"{MODEL}.lora.rank=8",
    "~data.shuffle",
    "~trainer.v1",
    "data.nonsense=1",
)
"""The cases of `BY_KEY` that run through the command. The others call the same check directly, which is faster."""

CASES = [
    *(([*TRAIN, *overrides], line) for overrides, line in BY_KEY if overrides[0].lstrip("+") in INSTANCES),
    *(([*TRAIN, *overrides], line) for overrides, line in [*TOGETHER, *PLACED, *SEVERAL, *LORA, *SERVICES, *CODE]),
    *(([*GPU, *overrides], line) for overrides, line in ON_A_GPU),
    (
        ["train", "experiment=tiny/forward_kl_24", f"+{TEACHER}.inference.engine_kwargs.vllm.max_logprobs=4"],
        f"{LOSS}.topk=8: exceeds the teacher's engine_kwargs.vllm.max_logprobs=4",
    ),
]
