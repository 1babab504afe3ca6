"""The teacher's own prompts (`prefix_opd.method.teacher_prompt`): every training row has one, and it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.chat_template import template_variables
from prefix_opd.checks.run_data import data_files, problem_of, read_rows
from prefix_opd.config.keys import TEMPLATE_KEY, TRAIN_KEY
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.method.teacher_prompt import Conversation, prompt_ids

KEY = "prefix_opd.teacher_prompt"


def teachers_longest_prompt(config: DictConfig, settings: Settings) -> int:
    """Longest prompt that the teacher's engine has room for, tokens."""
    own = settings.teacher_prompt
    return (own.max_length if own.is_own else None) or int(config.data.max_prompt_length)


def teacher_conversations(config: DictConfig, settings: Settings) -> list[Conversation]:
    """The teacher's conversation of every training row. Raises UserError that names the file and the row."""
    found: list[Conversation] = []
    for path in data_files(config, TRAIN_KEY):
        rows = read_rows(path, [config.data.prompt_key, *settings.teacher_prompt.columns])
        found += [_conversation(config, settings, path, number, row) for number, row in enumerate(rows)]
    return found


def _conversation(config: DictConfig, settings: Settings, path: Path, number: int, row: dict[str, Any]) -> Conversation:
    try:
        messages = settings.teacher_prompt.messages(row[config.data.prompt_key], row)
        if problem := problem_of(messages):
            raise ValueError(f"column {settings.teacher_prompt.column!r}: {problem}")
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{TRAIN_KEY}={path}", f"row {number} {error}", f"{KEY} needs it in every row: fill it in or drop the row"
        ) from None
    return messages


def check_teacher_prompts(config: DictConfig, settings: Settings, student: Model) -> None:
    """Check that the teacher has a prompt for every training row and room for it.

    Rows whose question is too long for the student are not looked at if verl drops them.

    Raises:
        UserError: the first row without a prompt, or with one that is too long.
    """
    own = settings.teacher_prompt
    if not own.is_own:
        if own.max_length not in (None, config.data.max_prompt_length):
            raise UserError(
                f"{KEY}.max_length={own.max_length}",
                "is not read: the teacher has the student's prompt",
                f"set {KEY}.column or .template, or leave it out",
            )
        return
    template, variables = OmegaConf.select(config, TEMPLATE_KEY), template_variables(config)
    room, number = teachers_longest_prompt(config, settings), 0
    for path in data_files(config, TRAIN_KEY):
        rows = read_rows(path, [config.data.prompt_key, *own.columns])
        for number, row in enumerate(rows):
            messages = _conversation(config, settings, path, number, row)
            length = len(prompt_ids(student.tokenizer, messages, template, **variables))
            if length > room and not _is_dropped(config, student, row[config.data.prompt_key]):
                raise UserError(
                    f"{TRAIN_KEY}={path}",
                    f"row {number}: the teacher's prompt has {length} tokens, and its engine has room for {room}",
                    f"set {KEY}.max_length={length} or more, or drop the row",
                )


def _is_dropped(config: DictConfig, student: Model, prompt: Conversation) -> bool:
    template, variables = OmegaConf.select(config, TEMPLATE_KEY), template_variables(config)
    length = len(prompt_ids(student.tokenizer, prompt, template, **variables))
    return config.data.filter_overlong_prompts and length > config.data.max_prompt_length
