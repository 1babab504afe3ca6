"""Checks before a problem enters the sample: its length, and whether an evaluation set contains it."""

from __future__ import annotations

from dataclasses import dataclass

from prefix_opd.base.errors import UserError
from prefix_opd.data.layouts import Problem
from prefix_opd.data.overlap import EvaluationQuestions, Match, read_evaluation
from prefix_opd.data.rows import user_message
from prefix_opd.data.settings import OVERLAP_SHARE, PrepareSettings
from prefix_opd.method.prompt import THINK_START, PromptForm, Thinking
from prefix_opd.method.teacher_prompt import prompt_ids


@dataclass(frozen=True)
class Screened:
    tokens: int | None
    """Length of the prompt in tokens, chat template included; None without a limit."""
    match: Match | None


class TokenCounter:
    """Counts a prompt's tokens as the trainer sees them. Without a chat template, only the message counts."""

    def __init__(self, tokenizer: str, thinking: Thinking = "forced"):
        from transformers import AutoTokenizer  # slow import, needed only with a limit

        form = PromptForm(thinking, THINK_START if thinking == "forced" else None, False if thinking == "off" else None)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
            own = self._tokenizer.chat_template
            own = own.get("default") if isinstance(own, dict) else own
            self._template = form.apply(self._tokenizer, own) if own else None
            self.count("1+1=")
        except Exception as error:  # each kind of tokenizer file, and each template, breaks in a way of its own
            first_line = str(error).strip().partition("\n")[0]
            raise UserError(
                f"tokenizer={tokenizer}", f"cannot be loaded ({first_line})", "give a folder that holds tokenizer.json"
            ) from error

    def count(self, message: str) -> int:
        """Number of tokens of this user message in the chat template, with the generation prompt."""
        if self._template:
            return len(prompt_ids(self._tokenizer, [{"role": "user", "content": message}], self._template))
        return len(self._tokenizer.encode(message, add_special_tokens=False))


class Screen:
    """Checks problems against the settings. The evaluation files are read first, so that a wrong path is reported
    before the first row is read."""

    def __init__(self, settings: PrepareSettings):
        self._settings = settings
        self._tokens = TokenCounter(settings.tokenizer, settings.thinking) if settings.tokenizer is not None else None
        self._evaluation: EvaluationQuestions | None = None
        if settings.decontaminate_against:
            self._evaluation = read_evaluation(settings.decontaminate_against)

    def look(self, problem: Problem) -> Screened:
        """The prompt length of one problem and its most similar evaluation question."""
        tokens = None if self._tokens is None else self._tokens.count(user_message(problem))
        return Screened(tokens, None if self._evaluation is None else self._evaluation.match(problem.question))

    def is_long(self, screened: Screened) -> bool:
        return screened.tokens is not None and screened.tokens > (self._settings.max_prompt_tokens or 0)

    def is_duplicate(self, screened: Screened) -> bool:
        """Whether the problem duplicates an evaluation question: equal text, or enough shared runs."""
        return screened.match is not None and (screened.match.equal or screened.match.share >= OVERLAP_SHARE)

    def drops(self, screened: Screened) -> bool:
        return (self._settings.drop_long and self.is_long(screened)) or (
            self._settings.drop_duplicates and self.is_duplicate(screened)
        )
