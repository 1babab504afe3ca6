"""verl's config for an evaluation: validation only, no teacher, prompts and stop tokens as in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from prefix_opd.base.errors import UserError
from prefix_opd.checks import cluster, services, together
from prefix_opd.checks.chat_template import fill_in_template, template_variables
from prefix_opd.checks.models import check_embedding, check_sizes
from prefix_opd.checks.preflight import check_padding, check_verl_version, fill_in_stop, fit_model
from prefix_opd.checks.surface import check_surface
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import LOOP_KEY, ONE_TURN, STUDENT_KEY, TEACHER_KEY
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.cost.memory import ROLLOUT_KEY
from prefix_opd.evaluation.benchmarks import MINIATURES, Benchmark, Sampling, check_answers
from prefix_opd.evaluation.engine import key_of, set_engine, take_over
from prefix_opd.evaluation.target import Target

TRAINER = "prefix_opd_evaluate"
MANAGER = "prefix_opd.verl_plugin.trainer.evaluator.EvaluationManager"
NODE = "prefix_opd_evaluation"
"""Our node of the config. verl does not read it."""

ASKED = ("prefix_opd.prompt", "prefix_opd.rollout", "data.max_prompt_length", "data.apply_chat_template_kwargs")
"""Keys of prompts and stop tokens that an evaluation takes from the run of its checkpoint."""

FLAGS = {
    STUDENT_KEY: "the first argument",
    "data.val_files": "the benchmarks",
    "data.train_files": "the benchmarks",
    "data.val_max_samples": "--limit",
    "data.prompt_key": "no override: benchmarks have the column 'prompt'",
    "data.max_response_length": "--max-tokens",
    "actor_rollout_ref.rollout.val_kwargs.n": "--k",
    "actor_rollout_ref.rollout.val_kwargs.temperature": "--temperature",
    "actor_rollout_ref.rollout.val_kwargs.top_p": "--top-p",
    "actor_rollout_ref.rollout.seed": "--seed",
    "trainer.default_local_dir": "--out",
    "trainer.val_only": "no override: an evaluation only validates",
    "trainer.v1.trainer_mode": "no override: an evaluation has its own trainer",
    "distillation.enabled": "no override: an evaluation starts no teacher",
}
"""Key that an evaluation sets itself -> the flag that the user can set it with."""


def check_overrides(overrides: Sequence[str]) -> None:
    """Raises UserError for an override of a key that the evaluation sets itself."""
    for override in overrides:
        key = key_of(override)
        if key in FLAGS:
            raise UserError(override, "is set by the evaluation", f"use {FLAGS[key]}")


def evaluation_config(
    target: Target,
    benchmarks: Sequence[Benchmark],
    sampling: Sampling,
    out: Path,
    chunk: int,
    gpus: int | None = None,
    teacher: str | None = None,
    overrides: Sequence[str] = (),
) -> DictConfig:
    """The whole config, checked. Raises UserError for the first invalid setting.

    Args:
        chunk: problems per part file.
        gpus: GPUs per node, by default those of the run or the layout.
        teacher: its end tokens also stop a response, as in training. By default the run's or the experiment's teacher.
        overrides: the user's. They take precedence over the run's values.
    """
    check_verl_version()
    check_overrides(overrides)
    config = compose([*_base(target, benchmarks[0].name, overrides), *overrides])
    check_surface(config)
    touched = {key_of(override) for override in overrides}
    if "prefix_opd.prompt.thinking" in touched:  # another mode than the run's has another ending
        touched.add("prefix_opd.prompt.ending")
    if target.run_config is not None:
        take_over(config, target.run_config, ASKED, touched)
        _check_loop(config, target.run_config, touched)
    services.check_agent_loop(config)
    set_engine(config, target.run_config, gpus, touched)
    _set_own(config, target, benchmarks, sampling, out, chunk)
    services.check_grader(config)
    check_answers(config, benchmarks)
    _check_model(config, target.model)
    _fill_in(config, target, teacher)
    fit_model(config, target.model)
    services.check_trackers(config)
    together.check_values(config)
    cluster.check_cluster(config)
    _set_lengths(config, target, benchmarks, sampling, touched)
    Settings.from_node(OmegaConf.to_container(config.prefix_opd, resolve=True))
    together.check_storage(config, {"answers of a batch": max(min(chunk, len(b.rows)) * b.samples for b in benchmarks)})
    return config


def _base(target: Target, benchmark: str, overrides: Sequence[str]) -> list[str]:
    given = {key_of(override) for override in overrides}
    if benchmark in MINIATURES and "experiment" not in given:
        return [f"experiment={benchmark}/full"]
    if target.run_config is not None and "platform" not in given:
        return [f"platform={'cpu' if target.run_config.platform == 'cpu' else 'gpu'}"]
    return []


def _check_loop(config: DictConfig, run: DictConfig, touched: set[str]) -> None:
    """Run no code that only a run's config names, because its folder may come from elsewhere. Raises UserError."""
    theirs = OmegaConf.select(run, LOOP_KEY, default=ONE_TURN)
    if theirs != config.actor_rollout_ref.rollout.agent.default_agent_loop and LOOP_KEY not in touched:
        rule = "is the agent loop of this run, and an evaluation runs such code only if its command names it"
        raise UserError(f"{LOOP_KEY}={theirs}", rule, "add it to the command")


def _set_own(
    config: DictConfig, target: Target, benchmarks: Sequence[Benchmark], sampling: Sampling, out: Path, chunk: int
) -> None:
    first, local = str(benchmarks[0].path.absolute()), target.model.local
    ranks = config.trainer.n_gpus_per_node * config.trainer.nnodes
    own: dict[str, Any] = {
        # relative paths refer to the launcher's directory; Ray's workers have other working directories
        STUDENT_KEY: str(local.absolute()) if local.is_dir() else target.model.path,
        # verl builds both data sets before validation; prefix_opd/verl_plugin/trainer/evaluator.py replaces them
        "data.train_files": first,
        "data.val_files": first,
        "data.train_batch_size": ranks,
        "data.filter_overlong_prompts": False,
        "data.prompt_key": "prompt",
        "data.max_response_length": sampling.max_tokens,
        "actor_rollout_ref.actor.ppo_mini_batch_size": ranks,
        "actor_rollout_ref.rollout.n": 1,
        "actor_rollout_ref.rollout.seed": sampling.seed,
        "actor_rollout_ref.rollout.calculate_log_probs": False,
        "actor_rollout_ref.rollout.val_kwargs.temperature": sampling.temperature,
        "actor_rollout_ref.rollout.val_kwargs.top_p": sampling.top_p,
        "actor_rollout_ref.rollout.val_kwargs.do_sample": sampling.temperature > 0,
        "actor_rollout_ref.rollout.agent.agent_loop_manager_class": MANAGER,
        "distillation.enabled": False,
        "trainer.v1.trainer_mode": TRAINER,
        "trainer.experiment_name": f"evaluation of {target.name}",
        "trainer.default_local_dir": str(out.absolute()),
        "trainer.validation_data_dir": str(out.absolute()),
        "trainer.val_only": True,
        "trainer.val_before_train": True,
        "trainer.resume_mode": "disable",
        "trainer.log_val_generations": 0,
        "trainer.total_training_steps": 1,
        NODE: {
            "chunk": chunk,
            "seed": sampling.seed,
            "benchmarks": [
                {"name": one.name, "path": str(one.path.absolute()), "samples": one.samples, "limit": one.limit}
                for one in benchmarks
            ],
        },
    }
    for key, value in own.items():
        OmegaConf.update(config, key, value, merge=False, force_add=True)


def _check_model(config: DictConfig, model: Model) -> None:
    """The checks that a run makes of its student beside those of `prefix_opd.evaluation.target`. Raises UserError."""
    together.check_family(config, model, ROLLOUT_KEY)
    check_padding(model)
    check_embedding(model)
    check_sizes(model)


def _fill_in(config: DictConfig, target: Target, teacher: str | None) -> None:
    """Set the forced ending and the stop tokens, as `prefix_opd.checks.preflight` does for training."""
    settings = Settings.from_node(OmegaConf.to_container(config.prefix_opd, resolve=True))
    model, run = target.model, target.run_config
    named = teacher or OmegaConf.select(config, TEACHER_KEY)
    with open_dict(config):
        if run is not None and teacher is None:
            config.prefix_opd.stop_token_ids = run.prefix_opd.stop_token_ids
            config.prefix_opd.ignore_own_end_token = run.prefix_opd.ignore_own_end_token
        else:
            theirs = Model("--teacher", str(named)).end_token_ids if named else []
            fill_in_stop(config, settings, model, theirs)
        # the teacher is never started, but its config is read for the ledger
        nodes = config.distillation.teacher_models
        nodes.teacher_model.model_path = config.actor_rollout_ref.model.path
        for name in [name for name in nodes if name != "teacher_model"]:
            del nodes[name]
    fill_in_template(config, settings.prompt, model, evaluated=True)


def _set_lengths(
    config: DictConfig, target: Target, benchmarks: Sequence[Benchmark], sampling: Sampling, touched: set[str]
) -> None:
    """Make room for the longest prompt, so that no problem is left out."""
    template = OmegaConf.select(config, "actor_rollout_ref.model.custom_chat_template")
    variables = template_variables(config)
    rows = (row for benchmark in benchmarks for row in benchmark.rows)
    prompts = (target.model.prompt(row["prompt"], template, **variables) for row in rows)
    longest = max(len(target.model.tokenizer.encode(prompt, add_special_tokens=False)) for prompt in prompts)
    if "data.max_prompt_length" in touched and longest > config.data.max_prompt_length:
        raise UserError(
            f"data.max_prompt_length={config.data.max_prompt_length}", f"the longest prompt has {longest} tokens"
        )
    config.data.max_prompt_length = max(longest, config.data.max_prompt_length)
    response = config.actor_rollout_ref.rollout.response_length  # sampling.max_tokens, and room for tool outputs
    needed = config.data.max_prompt_length + response + 1
    room = target.model.context
    if room is not None and longest + response > room:
        raise UserError(
            f"--max-tokens={sampling.max_tokens}",
            f"exceeds the model's context of {room} tokens with a prompt of {longest}",
            f"use --max-tokens={max(1, room - longest - response + sampling.max_tokens)} or less",
        )
    key = "actor_rollout_ref.rollout.max_model_len"
    if key not in touched:
        OmegaConf.update(config, key, needed if room is None else min(needed, room), force_add=True)
    elif not longest + response <= (given := OmegaConf.select(config, key)) <= (room or given):
        rule = f"has no room for prompt + response = {longest} + {response} tokens, or exceeds the model's context"
        raise UserError(f"{key}={given}", rule, "leave it out")
