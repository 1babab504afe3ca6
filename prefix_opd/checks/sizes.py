"""Lengths, batches and the schedule's L must fit one another."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.checks import together
from prefix_opd.checks.teacher_prompts import teachers_longest_prompt
from prefix_opd.config.keys import STUDENT_KEY, positive
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.cost.memory import ROLLOUT_KEY
from prefix_opd.method.schedule import Schedule, prefix_lengths


def check_lengths(config: DictConfig, settings: Settings) -> None:
    prompt, response = (positive(config, f"data.max_{part}_length") for part in ("prompt", "response"))
    for name, length in settings.schedule.named_lengths().items():
        if length > response:
            raise UserError(
                f"prefix_opd.schedule.{name}={length}",
                f"exceeds data.max_response_length={response}, which no rollout may exceed",
                "lower the one or raise the other",
            )
    _check_schedule(config, settings.schedule, response)
    response = config.actor_rollout_ref.rollout.response_length
    for node in together.engine_keys(config):
        key = f"{node}.max_model_len"
        room = None if OmegaConf.select(config, key) is None else positive(config, key)
        prompt = config.data.max_prompt_length if node == ROLLOUT_KEY else teachers_longest_prompt(config, settings)
        if room is not None and prompt + response + 1 > room:
            raise UserError(
                f"{key}={room}",
                f"has no room for prompt + response + 1 = {prompt} + {response} + 1 tokens",
                f"set it to {prompt + response + 1} or more",
            )


def _check_schedule(config: DictConfig, schedule: Schedule, response: int) -> None:
    """Check that a schedule, which may be the user's own, gives a valid L at the first and the last step."""
    rows = positive(config, "data.train_batch_size")
    for step in (1, positive(config, "trainer.total_training_steps")):
        try:
            prefix_lengths(schedule, step, rows, response)
        except Exception as error:
            raise UserError(
                f"prefix_opd.schedule.name={OmegaConf.select(config, 'prefix_opd.schedule.name')}",
                f"gives no length at step {step} ({one_line(error)})",
                "mend its prefix_length",
            ) from error


def check_context(config: DictConfig, settings: Settings, model: Model) -> None:
    """Check that the sequences fit the model's context, the limit unless a shorter one is set."""
    own = config.data.max_prompt_length
    prompt = own if model.key == STUDENT_KEY else teachers_longest_prompt(config, settings)
    needed = prompt + config.actor_rollout_ref.rollout.response_length + 1
    room = model.context
    if room is not None and needed > room:
        raise UserError(
            f"{model.key}={model.path}",
            f"its context of {room} tokens has no room for prompt + response + 1 = {needed}",
            "lower data.max_prompt_length or data.max_response_length",
        )


def check_batches(config: DictConfig) -> None:
    prompts = positive(config, "data.train_batch_size")
    rollouts = prompts * positive(config, "actor_rollout_ref.rollout.n")
    mini = positive(config, "actor_rollout_ref.actor.ppo_mini_batch_size")
    ranks = positive(config, "trainer.n_gpus_per_node") * positive(config, "trainer.nnodes")
    if prompts % mini:
        raise UserError(
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini}", f"must divide data.train_batch_size={prompts}"
        )
    actor = config.actor_rollout_ref.actor
    longest = config.data.max_prompt_length + config.actor_rollout_ref.rollout.response_length
    if actor.use_dynamic_bsz:
        held = positive(config, "actor_rollout_ref.actor.ppo_max_token_len_per_gpu")
        key = "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu"
        inferred = positive(config, key)
        for name, size in (("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", held), (key, inferred)):
            if size < longest:
                raise UserError(
                    f"{name}={size}",
                    f"holds no sequence of prompt + response = {longest} tokens",
                    f"set it to {longest} or more",
                )
        if inferred > held:
            raise UserError(
                f"{key}={inferred}", f"exceeds ppo_max_token_len_per_gpu={held}, which memory is planned for"
            )
        if inferred < held and config.prefix_opd.advantage.student_log_prob != "recomputed":
            raise UserError(
                f"{key}={inferred}",
                "is read with prefix_opd.advantage.student_log_prob=recomputed alone",
                "leave it out",
            )
    if rollouts % ranks or (mini * config.actor_rollout_ref.rollout.n) % ranks:
        raise UserError(
            f"data.train_batch_size={prompts}",
            f"{prompts} prompts x n={config.actor_rollout_ref.rollout.n} rollouts do not divide among {ranks} ranks",
            "change data.train_batch_size, actor_rollout_ref.rollout.n or trainer.n_gpus_per_node",
        )
