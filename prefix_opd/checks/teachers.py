"""The teachers of a run: each training row has one with a prompt that fits, and an engine scores a rollout in time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.checks.chat_template import template_variables
from prefix_opd.checks.run_data import data_files, problem_of, read_rows, sources
from prefix_opd.config.keys import TEMPLATE_KEY, TRAIN_KEY
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import NODE, Teacher, teachers
from prefix_opd.cost.plan import longest_score
from prefix_opd.method.teacher_prompt import Conversation, prompt_ids

KEY = "prefix_opd.teacher_prompt"
"""The teacher's own prompts (`prefix_opd.method.teacher_prompt`)."""


def check_sources(config: DictConfig) -> None:
    """Check that each training row has a teacher, and each of several teachers has rows. Raises UserError."""
    keys = {one.source: one for one in teachers(config)}
    if "" in keys:
        return
    found = sources(config)
    for source in sorted(found.keys() - keys):
        rule = f"has no teacher, and {found[source]} rows have it (the teachers' keys are {', '.join(keys)})"
        fix = f"add +{NODE}.NAME.key={source} with its model_path, or leave these rows out"
        raise UserError(f"{TRAIN_KEY}: data_source {source}", rule, fix)
    for source in [source for source in keys if source not in found]:
        rule = f"is the data_source of no training row (they have {', '.join(sorted(found))})"
        raise UserError(f"{NODE}.{keys[source].name}.key={source}", rule, "leave this teacher out, or correct its key")


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
        rule = (
            f"is less than the {needed:.3g} s in which an engine of the teacher scores one rollout of the longest step"
        )
        fix = f"set it to {math.ceil(10 * needed)} or more"
        raise UserError(f"prefix_opd.rollout.timeout_seconds={limit:g}", rule, fix)


def teachers_longest_prompt(config: DictConfig, settings: Settings) -> int:
    """Longest prompt that the teacher's engine has room for, tokens."""
    own = settings.teacher_prompt
    return (own.max_length if own.is_own else None) or int(config.data.max_prompt_length)


def teacher_conversations(config: DictConfig, settings: Settings) -> list[Conversation]:
    """The teacher's conversation of every training row. Raises UserError that names the file and the row."""
    return [messages for *_, messages in _rows(config, settings)]


def _rows(config: DictConfig, settings: Settings) -> Iterator[tuple[str, str, Any, Conversation]]:
    """The file and the row for messages, the student's conversation, and the teacher's."""
    own, prompt = settings.teacher_prompt, config.data.prompt_key
    for path in data_files(config, TRAIN_KEY):
        what = f"{TRAIN_KEY}={path}"
        for number, row in enumerate(read_rows(what, path, [prompt, *own.columns])):
            try:
                messages = own.messages(row[prompt], row)
                if problem := problem_of(messages):
                    raise ValueError(f"column {own.column!r}: {problem}")
            except (ValueError, TypeError) as error:
                fix = f"{KEY} needs it in every row: fill it in or drop the row"
                raise UserError(what, f"row {number} {error}", fix) from None
            yield what, f"row {number}", row[prompt], messages


def check_teacher_prompts(config: DictConfig, settings: Settings, student: Model) -> None:
    """Check that the teacher has a prompt for every training row and room for it. Raises UserError for the first row.

    A row that verl drops, because its question is too long for the student, needs no room.
    """
    own, most = settings.teacher_prompt, config.data.max_prompt_length
    if not own.is_own:
        if own.max_length not in (None, most):
            rule, fix = "is not read: the teacher has the student's prompt", f"set {KEY}.column or .template"
            raise UserError(f"{KEY}.max_length={own.max_length}", rule, f"{fix}, or leave it out")
        return
    template, variables = OmegaConf.select(config, TEMPLATE_KEY), template_variables(config)

    def length_of(messages: Conversation) -> int:
        return len(prompt_ids(student.tokenizer, messages, template, **variables))

    room = teachers_longest_prompt(config, settings)
    for what, row, asked, messages in _rows(config, settings):
        try:
            length = length_of(messages)
        except Exception as error:  # a template is a program and may raise anything
            rule = f"{row}: the student's chat template rejects the teacher's prompt ({one_line(error)})"
            raise UserError(what, rule, f"change {KEY}, or set {TEMPLATE_KEY}") from None
        if length > room:
            if config.data.filter_overlong_prompts and length_of(asked) > most:
                continue
            rule = f"{row}: the teacher's prompt has {length} tokens, and its engine has room for {room}"
            raise UserError(what, rule, f"set {KEY}.max_length={length} or more, or drop the row")
