"""The run that is looked at: its config, its two models by their small files, and its prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf

from prefix_opd.ending import stop_token_ids
from prefix_opd.errors import UserError
from prefix_opd.models import Model
from prefix_opd.preflight import STUDENT_KEY, TEACHER_KEY, check_data, model_of
from prefix_opd.prompt import template_with_ending
from prefix_opd.settings import Settings

TRAIN_KEY, VAL_KEY = "data.train_files", "data.val_files"


@dataclass(frozen=True)
class Case:
    """A composed config with what follows from it. Nothing is started, no weight is read."""

    config: DictConfig
    settings: Settings
    student: Model
    teacher: Model
    sample: int | None = None
    """Prompts that are tokenized, evenly spread over the training rows; none: all."""

    @classmethod
    def open(cls, config: DictConfig, sample: int | None = None) -> Case:
        """Read what every check needs. Raises UserError if a model or a data file cannot be looked at at all."""
        settings = Settings.from_node(OmegaConf.to_container(config.prefix_opd, resolve=True))
        student, teacher = (model_of(config, key) for key in (STUDENT_KEY, TEACHER_KEY))
        for key in (TRAIN_KEY, VAL_KEY):
            _existing(config, key)
        for model in (student, teacher):
            _ = model.shape, model.tokenizer, _own_template(model)
        return cls(config, settings, student, teacher, sample)

    @cached_property
    def stop_ids(self) -> list[int]:
        """Tokens that stop a rollout."""
        return stop_token_ids(self.settings.rollout.stop, self.student.end_token_ids, self.teacher.end_token_ids)

    @cached_property
    def train_messages(self) -> list[list[dict[str, Any]]]:
        """The conversation of every training row."""
        return self._messages(TRAIN_KEY)

    @cached_property
    def val_messages(self) -> list[list[dict[str, Any]]]:
        return self._messages(VAL_KEY)

    def _messages(self, key: str) -> list[list[dict[str, Any]]]:
        check_data(self.config, key)
        rows = []
        for path in _existing(self.config, key):
            rows += _column(path, self.config.data.prompt_key)
        return rows

    @cached_property
    def sampled_messages(self) -> list[list[dict[str, Any]]]:
        """Training rows whose prompts are tokenized."""
        rows = self.train_messages
        if self.sample is None or len(rows) <= self.sample:
            return rows
        return [rows[i * len(rows) // self.sample] for i in range(self.sample)]

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Token ids of the sampled training prompts, forced ending included: what student and teacher see."""
        return self.tokenize(self.student, self.sampled_messages)

    def tokenize(self, model: Model, conversations: list[list[dict[str, Any]]]) -> list[list[int]]:
        """Prompts as verl would render them with this model's own chat template, and the forced ending."""
        return model.tokenizer(self.render(model, conversations), add_special_tokens=False)["input_ids"]

    def render(self, model: Model, conversations: list[list[dict[str, Any]]], **kwargs) -> list[str]:
        """The same as text. ``kwargs`` go to the chat template, over ``data.apply_chat_template_kwargs``."""
        ending = self.settings.prompt.ending
        own = _own_template(model)
        given = OmegaConf.select(self.config, "data.apply_chat_template_kwargs")
        options = {**(OmegaConf.to_container(given, resolve=True) if given else {}), **kwargs}
        return model.tokenizer.apply_chat_template(
            conversations,
            chat_template=template_with_ending(own, ending) if ending else own,
            add_generation_prompt=True,
            tokenize=False,
            **options,
        )


def _own_template(model: Model) -> str:
    own = model.tokenizer.chat_template
    if not isinstance(own, str):
        raise UserError(f"{model.key}={model.path}", "has no chat template", "give one in its tokenizer files")
    return own


def _existing(config: DictConfig, key: str) -> list[Path]:
    files = OmegaConf.select(config, key)
    if files is None:
        raise UserError(key, "is not set", f"add {key}=FILE.parquet, see `prefix-opd prepare --help`")
    paths = [Path(file).expanduser() for file in ([files] if isinstance(files, str) else files)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{key}={path}", "does not exist", "see `prefix-opd prepare --help`")
    return paths


def _column(path: Path, name: str) -> list[Any]:
    if path.suffix in (".json", ".jsonl"):
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line)[name] for line in lines if line.strip()]
    return pq.read_table(path, columns=[name])[name].to_pylist()
