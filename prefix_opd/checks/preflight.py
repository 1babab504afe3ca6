"""Checks before any model or server starts; an error is one line and exit code 2."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from prefix_opd import VERL_VERSION
from prefix_opd.base.errors import UserError, one_line
from prefix_opd.checks import cluster, lora, objective, placement, services, together
from prefix_opd.checks.chat_template import fill_in_template
from prefix_opd.checks.remote_teacher import check_remote_teacher
from prefix_opd.checks.run_data import check_data
from prefix_opd.checks.sizes import check_batches, check_context, check_lengths
from prefix_opd.checks.surface import check_surface
from prefix_opd.checks.teachers import check_sources, check_teacher_prompts, check_timeout
from prefix_opd.config.keys import STUDENT_KEY, TRAIN_KEY, VAL_KEY
from prefix_opd.config.models import Model, check_same_vocabulary, end_token_ids
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import teachers
from prefix_opd.cost.memory import ROLLOUT_KEY
from prefix_opd.cost.plan import least_update
from prefix_opd.method.ending import stop_token_ids

FP32_BYTES = 4


def check(config: DictConfig, verls_own: bool = False) -> Settings:
    """Check a composed config and fill in what follows from its models (chat template, stop tokens).

    The cheap checks come first, so that a typo is reported within a second. Raises UserError for the first error.

    Args:
        verls_own: see `prefix_opd.launch.prepare`.
    """
    check_verl_version()
    if not verls_own:
        check_surface(config)
    path_of(config, STUDENT_KEY)
    settings = Settings.from_node(config.prefix_opd)
    check_folder(config)
    check_lengths(config, settings)
    check_sampling(config, settings)
    check_batches(config)
    objective.check_loss(config, settings)
    objective.check_probe(config, settings)
    objective.check_needs(config, settings)
    if not verls_own:
        objective.check_loss_settings(config, settings)
        services.check_manager(config)
        services.check_agent_loop(config)
    together.check_weighting(config, settings)
    together.check_values(config)
    placement.check_placement(config, settings)
    lora.check_lora(config)
    cluster.check_parallel_sizes(config)
    cluster.check_cluster(config)
    services.check_trackers(config)
    services.check_grader(config)
    rows = {key: check_data(config, key) for key in (TRAIN_KEY, VAL_KEY)}
    together.check_epochs(config, rows[TRAIN_KEY])
    together.check_probe(config, settings, rows[TRAIN_KEY])
    together.check_storage(config, together.stored(config, settings, rows[VAL_KEY]))
    check_sources(config)
    student, *theirs = models = models_of(config)
    remote = bool(settings.teacher.urls)
    for model, engine in zip(models, together.engine_keys(config), strict=True):
        check_context(config, settings, model)
        if model is student or not remote:
            model.check_weights(by_vllm_alone=model is not student)
            together.check_family(config, model, engine)
    lora.check_student(config, student)
    for one, teacher in zip(teachers(config), theirs, strict=True):
        if not remote:
            check_timeout(config, settings, student, teacher, one)
        check_same_vocabulary(student, teacher)
    check_budget(config, settings)
    objective.check_topk(config, settings, len(student.tokenizer))
    if remote:
        check_remote_teacher(config, settings, theirs[0])
    fill_in_stop(config, settings, student, end_token_ids(theirs))
    fill_in_template(config, settings.prompt, student)
    check_teacher_prompts(config, settings, student)
    placement.fit_engines(config)
    fit_model(config, student)
    return Settings.from_node(config.prefix_opd)


def check_verl_version() -> None:
    """Check that the verl release is the one whose hooks this package extends."""
    try:
        found = importlib.metadata.version("verl")
    except importlib.metadata.PackageNotFoundError:
        raise UserError("verl", "is not installed", f"pip install verl=={VERL_VERSION}") from None
    if found != VERL_VERSION:
        raise UserError(f"verl=={found}", f"prefix-opd extends {VERL_VERSION}", f"pip install verl=={VERL_VERSION}")


def check_folder(config: DictConfig) -> None:
    """Check where a run writes, and what it resumes from."""
    trainer = config.trainer
    for name in ("default_local_dir", "validation_data_dir"):
        if trainer[name] and (problem := _no_folder(trainer[name])):
            raise UserError(f"trainer.{name}={trainer[name]}", problem, "name another folder")
    if trainer.resume_mode == "resume_path":
        named = trainer.resume_from_path
        fix = "set trainer.resume_from_path=RUN/global_step_N, or trainer.resume_mode=auto"
        if not isinstance(named, str) or not named:
            raise UserError("trainer.resume_mode=resume_path", "needs the path of a checkpoint", fix)
        if not Path(named).expanduser().is_dir():
            raise UserError(f"trainer.resume_from_path={named}", "does not exist", fix)
    elif trainer.resume_from_path:
        rule = f"is not read with trainer.resume_mode={trainer.resume_mode}"
        raise UserError(
            f"trainer.resume_from_path={trainer.resume_from_path}", rule, "set resume_path, or leave it out"
        )


def _no_folder(named: str) -> str:
    """Why a run cannot write to this folder; empty if it can."""
    if "://" in named:
        return "is a URL, and a run writes to a folder of this machine"
    folder = Path(named).expanduser().absolute()
    try:
        place = next(one for one in (folder, *folder.parents) if one.exists())
    except (OSError, ValueError) as error:
        return f"cannot be a folder ({one_line(error)})"
    if not place.is_dir():
        return f"{place} is a file" if place != folder else "is a file"
    return "" if os.access(place, os.W_OK) else f"{place} is not writable"


def check_sampling(config: DictConfig, settings: Settings) -> None:
    """Check that the reward is an unbiased estimate, and that engines which sample during the update stay awake."""
    key, rollout, lag = ROLLOUT_KEY, config.actor_rollout_ref.rollout, settings.rollout.off_policy_steps
    for name, needed in (("temperature", 1.0), ("top_p", 1.0), ("top_k", -1)):
        if rollout[name] != needed and not settings.allow_any_temperature:
            rule = f"must be {needed}: the reward estimates KL(student || teacher) only on samples at temperature 1"
            fix = "set prefix_opd.allow_any_temperature=true to train on a biased estimate"
            raise UserError(f"{key}.{name}={rollout[name]}", rule, fix)
    if not rollout.calculate_log_probs:
        rule = "must be true: the reward needs the sampler's log-probs"
        raise UserError(f"{key}.calculate_log_probs=False", rule)
    if lag and rollout.free_cache_engine:
        rule = "the engines sample while the trainer trains, and free_cache_engine=True puts them to sleep"
        fix = f"set {key}.free_cache_engine=false, and gpu_memory_utilization so that both fit"
        raise UserError(f"prefix_opd.rollout.off_policy_steps={lag}", rule, fix)


def check_budget(config: DictConfig, settings: Settings) -> None:
    """Reject a FLOP budget below what any update takes. `prefix-opd plan` says how many updates a larger one pays."""
    budget = settings.flop_budget
    if budget is not None and (needed := least_update(config)) > budget:
        smallest = "the smallest possible update, with prompts and rollouts of one token"
        rule = f"is less than the {needed:.3g} FLOP of {smallest}"
        raise UserError(f"prefix_opd.flop_budget={budget:g}", rule, "raise it, or set it to null")


def path_of(config: DictConfig, key: str) -> str:
    """A model's folder or hub id. Raises UserError if it is not set."""
    path = OmegaConf.select(config, key)
    if not path:
        raise UserError(key, "is not set", f"add {key}=FOLDER or a hub id")
    return str(path)


def models_of(config: DictConfig) -> list[Model]:
    """The student and the teachers, which bring no code of their own unless they are trusted. Raises UserError."""
    trusted = OmegaConf.select(config, "actor_rollout_ref.model.trust_remote_code") is True
    models = []
    for key in (STUDENT_KEY, *(one.key for one in teachers(config))):
        models.append(Model(key, path_of(config, key), trusted))
        models[-1].check_own_code()
    return models


def fill_in_stop(config: DictConfig, settings: Settings, student: Model, teachers_ends: Sequence[int]) -> None:
    """Set the tokens that stop a rollout. Raises UserError for none, and for one beyond the vocabulary."""
    given, vocabulary = settings.rollout.stop, len(student.tokenizer)
    beyond = [one for one in given if one >= vocabulary] if isinstance(given, tuple) else []
    if beyond and not config.actor_rollout_ref.rollout.ignore_eos:  # rollouts of one length have such a token
        rule = f"{beyond[0]} is not a token of the vocabulary of {vocabulary}"
        raise UserError(f"prefix_opd.rollout.stop={list(given)}", rule)
    ids = stop_token_ids(given, student.end_token_ids, teachers_ends)
    if not ids:
        raise UserError(f"prefix_opd.rollout.stop={given}", "names no end token: rollouts never end")
    with open_dict(config):
        config.prefix_opd.stop_token_ids = ids
        config.prefix_opd.ignore_own_end_token = not set(student.end_token_ids) <= set(ids)


def check_padding(model: Model) -> None:
    """Reject a tokenizer without a token that verl can pad with. Raises UserError."""
    if model.tokenizer.pad_token_id is None and model.tokenizer.eos_token_id is None:
        rule = "its tokenizer has neither a padding token nor an end token, and verl pads with one of them"
        raise UserError(model.what, rule, "set pad_token in its tokenizer_config.json")


def fit_model(config: DictConfig, student: Model) -> None:
    """Fill in what follows from the student's weights, in training and in evaluation: attention, bucket of weights."""
    together.choose_attention(config, student)
    if config.platform == "cpu":
        fit_bucket(config, student)


def fit_bucket(config: DictConfig, student: Model) -> None:
    """Fit the bucket to the largest tensor: weights go to the engine in fp32 through shared memory in buckets."""
    needed = -(-student.largest_tensor * FP32_BYTES >> 20)
    if OmegaConf.select(config, cluster.BUCKET_KEY) < needed:
        OmegaConf.update(config, cluster.BUCKET_KEY, needed)
