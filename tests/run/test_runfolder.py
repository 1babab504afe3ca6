"""Which folder a run may go on in."""

import contextlib
import os
import signal

import pytest
from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose
from prefix_opd.run.checkpoints import saved as checkpoints
from prefix_opd.run.folder import check_is_free, check_same_run, hold, is_being_written


def start(folder, *overrides):
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    OmegaConf.save(again(folder, *overrides), folder / "config.yaml", resolve=True)


def again(folder, *overrides):
    return compose(["experiment=tiny/schedule", f"trainer.default_local_dir={folder}", *overrides])


def test_the_same_command_and_more_steps_go_on(tmp_path):
    start(tmp_path)
    check_same_run(again(tmp_path))
    check_same_run(
        again(tmp_path, "trainer.total_training_steps=99", "trainer.save_freq=3", "prefix_opd.poll_seconds=1")
    )


def test_a_run_of_the_previous_release_goes_on(tmp_path):
    """The previous release had no plugins, no named patches, and no name of the objective among its settings.

    It knew thinking by the forced ending alone, and no prompt of the teacher's own.
    """
    start(tmp_path)
    before = OmegaConf.load(tmp_path / "config.yaml")
    del before.prefix_opd.prompt.thinking, before.prefix_opd.teacher_prompt
    del before.prefix_opd.plugins, before.prefix_opd.patches_off, before.prefix_opd.loss.name
    OmegaConf.save(before, tmp_path / "config.yaml")
    check_same_run(again(tmp_path))


def test_a_run_from_before_updates_were_cut_by_length_goes_on(tmp_path):
    start(tmp_path)
    before = OmegaConf.load(tmp_path / "config.yaml")
    del before.prefix_opd.update
    OmegaConf.save(before, tmp_path / "config.yaml")
    check_same_run(again(tmp_path))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("prefix_opd.schedule.increment=8", "prefix_opd.schedule.increment=2 there, 8 here"),
        ("actor_rollout_ref.actor.optim.lr=0.1", "optim.lr=0.0003 there, 0.1 here"),
        ("data.train_batch_size=32", "actor_rollout_ref.actor.ppo_mini_batch_size=16 there, 32 here"),
        ("data.max_response_length=128", "data.max_response_length=192 there, 128 here"),
        ("data.max_prompt_length=30", "data.max_prompt_length=32 there, 30 here"),
        ("actor_rollout_ref.rollout.temperature=0.9", "rollout.temperature=1.0 there, 0.9 here"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size=8", "ppo_mini_batch_size=16 there, 8 here"),
        ("actor_rollout_ref.actor.shuffle=true", "actor_rollout_ref.actor.shuffle=False there, True here"),
        ("data.train_max_samples=64", "data.train_max_samples=-1 there, 64 here"),
        ("actor_rollout_ref.actor.optim.lr_scheduler_type=cosine", "lr_scheduler_type=constant there, cosine here"),
        ("actor_rollout_ref.actor.optim.lr_warmup_steps=9", "lr_warmup_steps="),
        ("prefix_opd.prompt.thinking=off", "prefix_opd.prompt.ending=<think> there, None here"),
        ("prefix_opd.teacher_prompt.column=hint", "prefix_opd.teacher_prompt.column=None there, hint here"),
        ("+data.apply_chat_template_kwargs.enable_thinking=true", "enable_thinking=None there, True here"),
        ("distillation.distillation_loss.topk=9", "distillation.distillation_loss.topk="),
        ("actor_rollout_ref.rollout.ignore_eos=true", "rollout.ignore_eos=False there, True here"),
        ("actor_rollout_ref.rollout.dtype=bfloat16", "rollout.dtype=float32 there, bfloat16 here"),
        ("actor_rollout_ref.actor.fsdp_config.model_dtype=bf16", "model_dtype=fp32 there, bf16 here"),
        ("actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16", "param_dtype=fp32 there, bf16 here"),
        ("actor_rollout_ref.model.lora.merge=true", "model.lora.merge=False there, True here"),
        ("actor_rollout_ref.model.custom_chat_template=x", "model.custom_chat_template=None there, x here"),
        ("distillation.teacher_models.teacher_model.inference.dtype=bfloat16", "inference.dtype=float32 there, bfloa"),
        ("actor_rollout_ref.rollout.val_kwargs.temperature=0.6", "val_kwargs.temperature=1.0 there, 0.6 here"),
        ("actor_rollout_ref.rollout.val_kwargs.n=4", "val_kwargs.n=1 there, 4 here"),
        ("data.val_files=other.parquet", "other.parquet here"),
        ("data.val_max_samples=8", "data.val_max_samples=256 there, 8 here"),
        ("reward.custom_reward_function.path=mine.py", "path=pkg://prefix_opd.grading.reward there, mine.py here"),
        ("+reward.custom_reward_function.reward_kwargs.time_limit_s=9", "time_limit_s=None there, 9 here"),
    ],
)
def test_another_setting_is_another_run(tmp_path, override, told):
    start(tmp_path)
    with pytest.raises(UserError, match="holds another run") as error:
        check_same_run(again(tmp_path, override))
    assert told in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "+reward.custom_reward_function.reward_kwargs.workers=4",
        "reward.num_workers=2",
        "actor_rollout_ref.rollout.max_num_seqs=8",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=999",
        "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        "prefix_opd.teacher.url=http://other:8000/v1",
    ],
)
def test_what_moves_speed_memory_or_a_server_goes_on(tmp_path, override):
    start(tmp_path)
    check_same_run(again(tmp_path, override))


def test_a_run_from_before_the_grader_was_told_of_the_prompt_goes_on(tmp_path):
    start(tmp_path)
    before = OmegaConf.load(tmp_path / "config.yaml")
    del before.reward.custom_reward_function.reward_kwargs
    OmegaConf.save(before, tmp_path / "config.yaml")
    check_same_run(again(tmp_path))


def test_more_steps_change_a_schedule_that_grows_over_them(tmp_path):
    start(tmp_path, "prefix_opd.schedule.name=cosine")
    with pytest.raises(UserError, match="schedule.over=55 there, 99 here"):
        check_same_run(again(tmp_path, "prefix_opd.schedule.name=cosine", "trainer.total_training_steps=99"))


@pytest.mark.parametrize("more", [[], ["prefix_opd.schedule.top=24"]])
def test_more_steps_change_a_random_l_only_where_its_upper_end_grows(tmp_path, more):
    drawn = ["prefix_opd.schedule.name=random", *more]
    start(tmp_path, *drawn)
    with pytest.raises(UserError, match="schedule.over=55") if more else contextlib.nullcontext():
        check_same_run(again(tmp_path, *drawn, "trainer.total_training_steps=99"))


def test_settings_of_other_classes_do_not_matter_and_a_larger_budget_goes_on(tmp_path):
    start(tmp_path)
    others = ["prefix_opd.schedule.threshold=0.3", "prefix_opd.schedule.over=99", "prefix_opd.weighting.largest=2"]
    check_same_run(again(tmp_path, *others, "prefix_opd.flop_budget=1e12", "prefix_opd.position_bins=8"))


@pytest.mark.parametrize("override", ["prefix_opd.probe.every=5", "prefix_opd.position_bins=8"])
def test_what_a_schedule_observes_is_part_of_the_run(tmp_path, override):
    adapts = "prefix_opd.schedule.name=budget"
    start(tmp_path, adapts)
    check_same_run(again(tmp_path, adapts))
    with pytest.raises(UserError, match="holds another run"):
        check_same_run(again(tmp_path, adapts, override))


def test_a_folder_that_a_live_run_holds_is_refused_and_nothing_written(tmp_path):
    held = hold(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="another run is writing to it"):
        check_is_free(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    held.close()
    check_is_free(tmp_path)


def test_an_empty_folder_is_anyones(tmp_path):
    check_same_run(again(tmp_path))


def test_checkpoints_are_those_that_verl_named(tmp_path):
    for step in (2, 4, 6):
        (tmp_path / f"global_step_{step}").mkdir()
    assert checkpoints(tmp_path) == {}
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    # step 6 was being written when the run was killed
    assert list(checkpoints(tmp_path)) == [2, 4]


def test_a_forked_copy_does_not_keep_the_folder(tmp_path):
    held = hold(tmp_path)
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(says, b"!")
        signal.pause()
    try:
        os.read(hears, 1)  # the copy is there
        assert is_being_written(tmp_path)
        held.close()
        assert not is_being_written(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
