"""The runs of test_kinds_end_to_end.py: overrides of `prefix-opd train`."""

SMALL = [
    "trainer.total_training_steps=2",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=-1",
    "data.train_batch_size=4",
    "actor_rollout_ref.rollout.n=2",
]

RUNS = {
    # few of the untrained student's answers reach 72
    "window": ["experiment=tiny/window_72_96", "prefix_opd.weighting.start=16"],
    "last": ["experiment=tiny/last_24"],
    "forward_kl": ["experiment=tiny/forward_kl_24"],
    "jsd": ["experiment=tiny/jsd_24"],
    "one_step_early": ["experiment=tiny/one_step_early", "prefix_opd.probe.every=0"],
    "two_teachers": ["experiment=tiny/two_teachers", "prefix_opd.schedule.start=24"],
    "self_hint": ["experiment=tiny/self_hint", "prefix_opd.schedule.start=24"],
    # the student as its own teacher, with a prompt of its own that is the student's, and without thinking
    "self": [
        "experiment=tiny/self_hint",
        "prefix_opd.schedule.start=24",
        'prefix_opd.teacher_prompt.template="{prompt}"',
        "prefix_opd.prompt.thinking=off",
    ],
    # what the other runs leave at its default: a second student pass, FSDP over two ranks, two updates a step, and a
    # teachers on the student's GPUs, each with an engine on one
    "two_ranks": [
        "experiment=tiny/two_teachers",
        "prefix_opd.schedule.start=24",
        "prefix_opd.advantage.student_log_prob=recomputed",
        "prefix_opd.loss.max_ratio=2.0",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        "trainer.n_gpus_per_node=2",
        "ray_kwargs.ray_init.num_gpus=2",
        "prefix_opd.teacher.placement=shared",
    ],
}

LORA = [
    "experiment=tiny/lora_schedule",
    "prefix_opd.schedule.start=24",
    "prefix_opd.probe.every=0",
    "trainer.n_gpus_per_node=2",
    "ray_kwargs.ray_init.num_gpus=3",
    *SMALL,
    "data.train_batch_size=8",
    "data.val_max_samples=128",
    "trainer.total_training_steps=4",
    "trainer.save_freq=2",
    "trainer.test_freq=4",
    "actor_rollout_ref.actor.optim.lr=3e-3",  # for so few updates
    # greedy, so that the answers of the exported adapter can be compared one by one
    "actor_rollout_ref.rollout.val_kwargs.do_sample=false",
    "actor_rollout_ref.rollout.val_kwargs.temperature=0",
    "trainer.validation_data_dir=validated",
]
"""An adapter, whose checkpoint at step 2 a second run goes on from."""
RESUMED = ["trainer.resume_mode=resume_path", "prefix_opd.checkpoint.allow_foreign=true", "trainer.test_freq=-1"]

LOOP = [
    "experiment=tiny/schedule",
    "actor_rollout_ref.rollout.agent.default_agent_loop=two_turns.TwoTurns",
    "prefix_opd.rollout.tool_tokens=32",
    "prefix_opd.rollout.seeded=1",
    "prefix_opd.schedule.start=24",
    "prefix_opd.schedule.increment=40",
    "prefix_opd.probe.every=3",
]
LOOP += [*SMALL, "data.train_batch_size=8", "data.val_max_samples=64", "trainer.total_training_steps=4"]
LOOP += ["trainer.save_freq=2", "trainer.test_freq=4"]
"""An agent loop of two turns (examples/two_turns.py), whose checkpoint at step 2 a second run goes on from."""

OWN = [
    "experiment=tiny/schedule",
    "prefix_opd.plugins=[my_method]",
    "prefix_opd.schedule.name=by-longest",
    "prefix_opd.schedule.first=2",
    "prefix_opd.weighting.name=even",
    "distillation.distillation_loss.loss_mode=scaled",
    "prefix_opd.loss.scale=0.5",
    "trainer.default_local_dir=own",
    *SMALL,
    "trainer.save_freq=2",
]
"""The loss's own keys are overridden like ours, without a +."""
