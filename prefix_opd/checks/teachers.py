"""Each training row has a teacher, each of several teachers has rows, and an engine scores a rollout in time."""

from __future__ import annotations

import math

from omegaconf import DictConfig

from prefix_opd.base.errors import UserError
from prefix_opd.checks.run_data import sources
from prefix_opd.config.keys import TRAIN_KEY
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import Teacher, teachers
from prefix_opd.cost.plan import longest_score


def check_sources(config: DictConfig) -> None:
    """Check that each training row has a teacher, and each of several teachers has rows. Raises UserError."""
    keys = {one.source: one for one in teachers(config)}
    if "" in keys:
        return
    found = sources(config)
    for source, rows in sorted(found.items()):
        if source not in keys:
            raise UserError(
                f"{TRAIN_KEY}: data_source {source}",
                f"has no teacher, and {rows} rows have it (the teachers' keys are {', '.join(keys)})",
                f"add +distillation.teacher_models.NAME.key={source} with its model_path, or leave these rows out",
            )
    for source, one in keys.items():
        if source not in found:
            raise UserError(
                f"distillation.teacher_models.{one.name}.key={source}",
                f"is the data_source of no training row (they have {', '.join(sorted(found))})",
                "leave this teacher out, or correct its key",
            )


def source_shares(config: DictConfig) -> dict[str, float] | None:
    """Shares of the data sources in the training rows, where a run has several teachers and its files are here."""
    named = {one.source for one in teachers(config)}
    if "" in named:
        return None
    try:
        found = sources(config)
    except UserError:  # a plan needs no data
        return None
    return {source: rows / found.total() for source, rows in found.items()} if set(found) == named else None


def check_timeout(config: DictConfig, settings: Settings, student: Model, teacher: Model, one: Teacher) -> None:
    """Reject a timeout too short for an engine to score even one rollout."""
    limit = settings.rollout.timeout_seconds
    needed = longest_score(config, settings, (student.shape, teacher.shape), one.gpus // one.engines)
    if needed > limit:
        raise UserError(
            f"prefix_opd.rollout.timeout_seconds={limit:g}",
            f"is less than the {needed:.3g} s in which an engine of the teacher scores one rollout of the longest step",
            f"set it to {math.ceil(10 * needed)} or more",
        )
