"""The end of every prompt, for student and teacher alike: does it open the thinking, close it, or leave that open?

A sampled-token KL teaches special tokens badly: a student that must produce ``<think>`` itself keeps sampling another
token (arXiv 2602.15260, section 4.1). So by default the prompt ends with the tag.

============  =====================================================  =================================
``thinking``  the prompt's end                                       ``enable_thinking``
============  =====================================================  =================================
forced        the template's, then ``ending`` (null: nothing more)   as given, or the template's default
template      the template's, which must have the switch             as given, or the template's default
off           the template's, which must not open the thinking       false, if the template has it
============  =====================================================  =================================

The chat template itself is changed: agent loops, length filter, validation and the exported model then see the same
prompt. Graders ask what the rendered prompt ends with (`opens_thinking`), not which mode was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefix_opd.base.errors import UserError
from prefix_opd.method.teacher_prompt import prompt_ids

Thinking = Literal["forced", "template", "off"]
THINK_START, THINK_END = "<think>", "</think>"
KEY = "prefix_opd.prompt"
OF_THE_USER = "actor_rollout_ref.model.custom_chat_template"
SWITCH_KEY = "data.apply_chat_template_kwargs.enable_thinking"
_QUESTION = "1+1="
_ASKED = [{"role": "user", "content": _QUESTION}]


def opens_thinking(prompt_end: str | None) -> bool:
    """Whether an answer after this prompt must follow ``</think>``."""
    return THINK_START in (prompt_end or "").rpartition(THINK_END)[2]


def template_with_ending(chat_template: str, ending: str | None, switch: bool | None = None) -> str:
    """A chat template whose generation prompt ends with ``ending``, with ``enable_thinking`` fixed to ``switch``."""
    before, after = _around(ending, switch)
    return before + chat_template + after


def _around(ending: str | None, switch: bool | None) -> tuple[str, str]:
    """What stands before a chat template to fix the switch, and behind it for the ending."""
    # the empty expression keeps a line end at the template's beginning
    before = "" if switch is None else "{% set enable_thinking = " + str(switch).lower() + " %}{{ '' }}"
    quoted = (ending or "").replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return before, "{% if add_generation_prompt %}{{ '" + quoted + "' }}{% endif %}" if ending else ""


def check_template(tokenizer, template, key: str) -> None:
    """Reject a chat template that cannot render a question. Raises UserError."""
    try:
        if _QUESTION not in _render(tokenizer, template):
            raise ValueError("the question does not occur in the prompt")
    except Exception as error:  # a template is a program and may raise anything
        rule = f"does not render a question ({type(error).__name__}: {str(error)[:120]})"
        raise UserError(key, rule, "give the text of a template (not its path) that renders the messages") from None


def has_switch(tokenizer, template: str) -> bool:
    """Whether the template reads ``enable_thinking``."""
    on, off = (prompt_end(tokenizer, template, enable_thinking=value) for value in (True, False))
    return on != off


def prompt_end(tokenizer, template: str, **variables) -> str:
    """The text between a question and the response, as the template renders it."""
    return _render(tokenizer, template, **variables).rpartition(_QUESTION)[2]


@dataclass(frozen=True)
class PromptForm:
    """How the end of a prompt is made; the table above."""

    thinking: Thinking = "forced"
    ending: str | None = None
    """Text, e.g. ``<think>``; None: nothing."""
    switch: bool | None = None
    """Value of the template's ``enable_thinking``; None: the template's default."""
    allow_split: bool = False
    """Accept an ending of several tokens."""

    def own(self, template: str) -> str:
        """The template before `apply`. A template without this form is returned unchanged."""
        before, after = _around(self.ending, self.switch)
        return template.removeprefix(before).removesuffix(after)

    def apply(self, tokenizer, own: str) -> str:
        """The template with this form, without a switch that it does not read."""
        switch = self.switch if self.switch is not None and has_switch(tokenizer, own) else None
        return template_with_ending(own, self.ending, switch)

    def checked(self, tokenizer, key: str, template: str | None = None) -> str:
        """`apply`, after the check that the prompt ends as the mode says and gains exactly the ending's tokens.

        Args:
            tokenizer: the student's (the teacher has the same vocabulary).
            key: config key of the model, for messages.
            template: the user's template in place of the tokenizer's; it may have this form already.

        Raises:
            UserError: there is no chat template, it has no switch (``template``) or opens the thinking (``off``), it
                closes the thinking or has the ending already (``forced``), or the tokenizer splits the ending or
                merges it with the text before it.
        """
        own = tokenizer.chat_template if template is None else template
        if not isinstance(own, str):
            what = f"{key}={tokenizer.name_or_path}"
            raise UserError(what, "has no chat template", "add one to its tokenizer files")
        own = self.own(own)
        check_template(tokenizer, own, f"{key}: its chat template" if template is None else OF_THE_USER)
        made = self.apply(tokenizer, own)
        if self.thinking == "template" and not has_switch(tokenizer, own):
            rule = f"the chat template of {key} has no switch (enable_thinking)"
            fix = f"set {KEY}.thinking=forced, or off for a model that does not think"
            raise UserError(f"{KEY}.thinking=template", rule, fix)
        if self.thinking == "off" and opens_thinking(prompt_end(tokenizer, made)):
            rule = "the chat template opens the thinking and has no switch (enable_thinking)"
            fix = "give a template that does not as actor_rollout_ref.model.custom_chat_template"
            raise UserError(f"{KEY}.thinking=off", rule, fix)
        if self.ending:
            self._check_ending(tokenizer, self.ending, own, made)
        return made

    def _check_ending(self, tokenizer, ending: str, own: str, made: str) -> None:
        what, ids = f"{KEY}.ending={ending}", tokenizer.encode(ending, add_special_tokens=False)
        if len(ids) != 1 and not self.allow_split:
            pieces = ", ".join(repr(tokenizer.decode([token])) for token in ids[:6])
            rule = f"the tokenizer splits it into {len(ids)} tokens ({pieces})"
            raise UserError(what, rule, f"name one token of the vocabulary, or set {KEY}.allow_split=true")
        before = template_with_ending(own, None, self.switch)
        if opens_thinking(ending) and THINK_END in prompt_end(tokenizer, before):
            rule = f"thinking is switched off, and {ending} is forced after it"
            raise UserError(what, rule, f"set {KEY}.thinking=off")
        before_ids, after_ids = (prompt_ids(tokenizer, _ASKED, template) for template in (before, made))
        if before_ids[-len(ids) :] == ids:
            raise UserError(what, "the chat template ends with it already", f"set {KEY}.ending=null")
        if after_ids != before_ids + ids:
            rule = "it does not stand as tokens of its own at the end of the prompt"
            fix = "choose a text that the tokenizer does not merge with the end of the chat template"
            raise UserError(what, rule, fix)


def _render(tokenizer, template: str, **variables) -> str:
    return tokenizer.apply_chat_template(
        _ASKED, chat_template=template, add_generation_prompt=True, tokenize=False, **variables
    )
