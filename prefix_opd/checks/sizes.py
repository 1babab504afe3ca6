"""Lengths, batches and the schedule's L must fit one another."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.checks import together
from prefix_opd.checks.teachers import teachers_longest_prompt
from prefix_opd.config.keys import STUDENT_KEY
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.cost.memory import ROLLOUT_KEY
from prefix_opd.method.schedule import prefix_lengths

BATCH_KEY, MINI_KEY = "data.train_batch_size", "actor_rollout_ref.actor.ppo_mini_batch_size"
HELD_KEY = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
INFERRED_KEY = f"{ROLLOUT_KEY}.log_prob_max_token_len_per_gpu"


def check_lengths(config: DictConfig, settings: Settings) -> None:
    """Check that L stays within the response, at the first and the last step, and that the engines have room."""
    response, schedule, steps = config.data.max_response_length, settings.schedule, config.trainer.total_training_steps
    bounds = {"data.max_response_length": response, "prefix_opd.schedule.maximum": schedule.maximum or response}
    for name, length in schedule.named_lengths().items():
        for key, most in bounds.items():
            if length > most:
                rule = f"exceeds {key}={most}, which no rollout may exceed"
                raise UserError(f"prefix_opd.schedule.{name}={length}", rule, "lower the one or raise the other")
    for step in (1, steps):
        try:
            prefix_lengths(schedule, step, config.data.train_batch_size, response)
        except Exception as error:  # the schedule may be the user's own
            what = f"prefix_opd.schedule.name={config.prefix_opd.schedule.name}"
            rule = f"gives no length at step {step} ({one_line(error)})"
            raise UserError(what, rule, "mend its prefix_length") from error
    for node in together.engine_keys(config):
        room, key = OmegaConf.select(config, f"{node}.max_model_len"), f"{node}.max_model_len"
        parts = _prompt_and_response(config, settings, node == ROLLOUT_KEY)
        if room is not None and (needed := sum(parts) + 1) > room:
            rule = f"has no room for prompt + response + 1 = {parts[0]} + {parts[1]} + 1 tokens"
            raise UserError(f"{key}={room}", rule, f"set it to {needed} or more")


def _prompt_and_response(config: DictConfig, settings: Settings, of_student: bool) -> tuple[int, int]:
    """The longest sequence of an engine, tokens."""
    prompt = config.data.max_prompt_length if of_student else teachers_longest_prompt(config, settings)
    return prompt, config.actor_rollout_ref.rollout.response_length


def check_context(config: DictConfig, settings: Settings, model: Model) -> None:
    """Check that the sequences fit the model's context, the limit unless a shorter one is set."""
    needed = sum(_prompt_and_response(config, settings, model.key == STUDENT_KEY)) + 1
    if model.context is not None and needed > model.context:
        rule = f"its context of {model.context} tokens has no room for prompt + response + 1 = {needed}"
        fix = "lower data.max_prompt_length or data.max_response_length"
        raise UserError(model.what, rule, fix)
    engine = ROLLOUT_KEY if model.key == STUDENT_KEY else f"{model.key.removesuffix('model_path')}inference"
    room = OmegaConf.select(config, f"{engine}.max_model_len")
    if model.context is not None and room is not None and room > model.context:
        rule = f"exceeds the context of {model.path}, {model.context} tokens"
        raise UserError(f"{engine}.max_model_len={room}", rule, f"set it to {needed} or leave it out")


def check_batches(config: DictConfig) -> None:
    """Check that batches divide into mini-batches and ranks, and that micro-batches hold the longest sequence."""
    rollout, ranks = config.actor_rollout_ref.rollout, config.trainer.n_gpus_per_node * config.trainer.nnodes
    prompts, mini = (OmegaConf.select(config, key) for key in (BATCH_KEY, MINI_KEY))
    if prompts % mini:
        raise UserError(f"{MINI_KEY}={mini}", f"must divide {BATCH_KEY}={prompts}")
    held, inferred = (OmegaConf.select(config, key) for key in (HELD_KEY, INFERRED_KEY))
    longest = config.data.max_prompt_length + rollout.response_length
    for key, size in ((HELD_KEY, held), (INFERRED_KEY, inferred)):
        if size < longest:
            rule = f"holds no sequence of prompt + response = {longest} tokens"
            raise UserError(f"{key}={size}", rule, f"set it to {longest} or more")
    if inferred > held:
        rule = f"exceeds ppo_max_token_len_per_gpu={held}, which memory is planned for"
        raise UserError(f"{INFERRED_KEY}={inferred}", rule)
    if inferred < held and config.prefix_opd.advantage.student_log_prob != "recomputed":
        rule = "is read only with prefix_opd.advantage.student_log_prob=recomputed"
        raise UserError(f"{INFERRED_KEY}={inferred}", rule, "leave it out")
    for key, size in ((BATCH_KEY, prompts), (MINI_KEY, mini)):
        if size * rollout.n % ranks:
            rule = f"{size} prompts x n={rollout.n} rollouts do not divide among {ranks} ranks"
            raise UserError(f"{key}={size}", rule, f"change it, {ROLLOUT_KEY}.n or trainer.n_gpus_per_node")
