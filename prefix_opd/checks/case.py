"""The run under check: its config, the small files of its two models, and its prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.chat_template import form_of, template_variables
from prefix_opd.checks.preflight import check_padding, models_of
from prefix_opd.checks.run_data import Conversation, conversations, data_files
from prefix_opd.checks.teachers import teacher_conversations
from prefix_opd.config.keys import TEMPLATE_KEY, TRAIN_KEY, VAL_KEY
from prefix_opd.config.models import Model, end_token_ids
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import teachers
from prefix_opd.method.ending import stop_token_ids
from prefix_opd.method.prompt import PromptForm
from prefix_opd.method.teacher_prompt import prompt_ids


@dataclass(frozen=True)
class Case:
    """A composed config and what follows from it. Starts nothing and reads no weights."""

    config: DictConfig
    settings: Settings
    student: Model
    teacher: Model
    sample: int | None = None
    """Number of prompts to tokenize, evenly spread over the training rows; None: all."""
    others: tuple[tuple[str, Model], ...] = ()
    """Of a run with several teachers all of them, by data source; ``teacher`` is the first."""

    @classmethod
    def open(cls, config: DictConfig, sample: int | None = None) -> Case:
        """Read what every check needs. Raises UserError if a model or a data file cannot be read."""
        settings = Settings.from_node(config.prefix_opd)
        student, *theirs = models = models_of(config)
        named = tuple((one.source, model) for one, model in zip(teachers(config), theirs, strict=True))
        for key in (TRAIN_KEY, VAL_KEY):
            data_files(config, key)
        for model in models:
            _ = model.shape, model.tokenizer
        case = cls(config, settings, student, theirs[0], sample, named if len(theirs) > 1 else ())
        case.own_template(student)
        check_padding(student)
        return case

    @property
    def by_teacher(self) -> list[tuple[str, Case]]:
        """(data source, the case with that teacher) of each of several teachers; of the only one ("", this case)."""
        return [(source, replace(self, teacher=teacher)) for source, teacher in self.others] or [("", self)]

    @cached_property
    def form(self) -> PromptForm:
        return form_of(self.config, self.settings.prompt)

    @cached_property
    def stop_ids(self) -> list[int]:
        theirs = end_token_ids([self.teacher, *(teacher for _, teacher in self.others)])
        return stop_token_ids(self.settings.rollout.stop, self.student.end_token_ids, theirs)

    @cached_property
    def train_messages(self) -> list[Conversation]:
        return conversations(self.config, TRAIN_KEY)

    @cached_property
    def val_messages(self) -> list[Conversation]:
        return conversations(self.config, VAL_KEY)

    @cached_property
    def sampled_messages(self) -> list[Conversation]:
        """Conversations of the training rows whose prompts are tokenized."""
        return self._spread(self.train_messages)

    def _spread(self, rows: list[Conversation]) -> list[Conversation]:
        if self.sample is None or len(rows) <= self.sample:
            return rows
        return [rows[i * len(rows) // self.sample] for i in range(self.sample)]

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Token ids of the sampled training prompts, with the forced ending: the input of student and teacher."""
        return self.tokenize(self.student, self.sampled_messages)

    @cached_property
    def teacher_prompts(self) -> list[list[int]]:
        """Token ids of the teacher's prompts for the same rows as `prompts`."""
        if not self.settings.teacher_prompt.is_own:
            return self.prompts
        template = self.form.apply(self.student.tokenizer, self.own_template(self.student))
        rows = self._spread(teacher_conversations(self.config, self.settings))
        variables = template_variables(self.config)
        return [prompt_ids(self.student.tokenizer, row, template, **variables) for row in rows]

    @cached_property
    def val_prompts(self) -> list[list[int]]:
        """Token ids of the validation prompts, which verl filters and truncates in the same way."""
        return self.tokenize(self.student, self._spread(self.val_messages))

    def tokenize(self, model: Model, conversations: list[Conversation]) -> list[list[int]]:
        """Token ids of the prompts as verl renders them with this model's chat template, with the forced ending."""
        return model.tokenizer(self.render(model, conversations), add_special_tokens=False)["input_ids"]

    def render(self, model: Model, conversations: list[Conversation]) -> list[str]:
        template = self.form.apply(model.tokenizer, self.own_template(model))
        return model.prompt(conversations, template, **template_variables(self.config))

    def own_template(self, model: Model) -> str:
        """The chat template without the forced ending: the tokenizer's, or for the student the user's if set."""
        given = OmegaConf.select(self.config, TEMPLATE_KEY) if model is self.student else None
        own = model.tokenizer.chat_template if given is None else given
        if not isinstance(own, str):
            raise UserError(model.what, "has no chat template", "add one to its tokenizer files")
        # before a run, `prefix_opd.checks.preflight` has already added the ending to the config
        return self.form.own(own)
