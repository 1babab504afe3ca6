"""A teacher that knows more than the student: it scores the student's tokens after a prompt of its own.

Self- and context distillation: the teacher's prompt adds a hint, instructions, or the reference solution. Teacher and
student may be the same model. Compare ``opsd`` of prime-rl, ``teacher_prompt`` of ms-swift, SDFT of TRL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator

from prefix_opd.base.fields import Fields, Tokens

Conversation = list[dict[str, str]]
PROMPT = "prompt"
"""The field of a text that stands for the question: the last user message of the student's prompt."""


def _text_with_fields(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"is not a template ({error}); write {{{{ and }}}} for braces") from None
    for _, name, spec, conversion in parts:
        if name is not None and (not all(part.isidentifier() for part in name.split(".")) or spec or conversion):
            raise ValueError(f"{{{name}}} is not a field: name {{prompt}} or a column; write {{{{ and }}}} for braces")
    return text


Template = Annotated[str, AfterValidator(_text_with_fields)]
"""A text with fields in braces: {prompt}, a column of the data, or {column.key} for a value in a group."""


class TeacherPrompt(Fields):
    """The teacher's own prompt. Without column, template and system, it is the student's."""

    column: str | None = None
    """Column of the training data with the teacher's prompt: a text, or a conversation like `prompt`. An assistant
    message at its end stands after the prompt's ending: text that the teacher has already written."""
    template: Template | None = None
    """Text that replaces the last user message. {prompt} is that message; {solution} or {extra_info.hint} is a column
    or a value in one."""
    system: Template | None = None
    """System message, with the same fields."""
    max_length: Tokens | None = None
    """Longest prompt of the teacher, tokens; default: data.max_prompt_length."""

    @model_validator(mode="after")
    def _one_source(self) -> TeacherPrompt:
        if self.column and (self.template or self.system):
            raise ValueError(f"column={self.column} is the whole prompt; leave template and system out")
        if self.template and PROMPT not in set(_names(self.template)):
            raise ValueError("template lacks {prompt}, the question")
        return self

    @property
    def is_own(self) -> bool:
        """Whether the teacher's prompt differs from the student's."""
        return bool(self.column or self.template or self.system)

    @property
    def columns(self) -> list[str]:
        """The columns that are read, besides the student's prompt."""
        named = [self.column] if self.column else [*_names(self.template), *_names(self.system)]
        return list(dict.fromkeys(name.partition(".")[0] for name in named if name != PROMPT))

    def messages(self, prompt: Sequence[Mapping[str, str]], row: Mapping[str, Any]) -> Conversation:
        """The teacher's conversation for the student's, ``prompt``, and the columns of its ``row``.

        Raises:
            ValueError: a value is missing, empty or no text.
        """
        messages = [dict(message) for message in prompt]
        if self.column:
            value = _value(row, self.column, text=False)
            if isinstance(value, str):
                return [{"role": "user", "content": value}]
            if not isinstance(value, Sequence) or not all(isinstance(one, Mapping) for one in value):
                raise ValueError(f"column {self.column!r} is neither text nor a list of role and content")
            return [dict(one) for one in value]
        asked = next(i for i in reversed(range(len(messages))) if messages[i]["role"] == "user" or i == 0)
        question = messages[asked]["content"]
        if self.template:
            messages[asked]["content"] = _filled(self.template, question, row)
        if self.system:
            others = [message for message in messages if message["role"] != "system"]
            messages = [{"role": "system", "content": _filled(self.system, question, row)}, *others]
        return messages


def prompt_ids(tokenizer: Any, messages: Conversation, template: str | None = None, **variables: Any) -> list[int]:
    """Token ids of a prompt in the chat template, its ending included. An assistant message at the end follows it.

    ``template`` replaces the tokenizer's own; ``variables`` are the template's.
    """
    begun = messages[-1]["content"] if len(messages) > 1 and messages[-1]["role"] == "assistant" else ""
    asked = messages[:-1] if begun else messages
    text = tokenizer.apply_chat_template(
        asked, chat_template=template, add_generation_prompt=True, tokenize=False, **variables
    )
    return tokenizer.encode(text + begun, add_special_tokens=False)


def _names(text: str | None) -> Iterator[str]:
    return (name for _, name, _, _ in Formatter().parse(text or "") if name is not None)


def _filled(text: str, question: str, row: Mapping[str, Any]) -> str:
    # one pass: braces in a question or a solution stay as they are
    parts = []
    for literal, name, _, _ in Formatter().parse(text):
        parts.append(literal)
        if name is not None:
            parts.append(question if name == PROMPT else _value(row, name))
    return "".join(parts)


def _value(row: Mapping[str, Any], name: str, text: bool = True) -> Any:
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"has no {name!r}")
        value = value[part]
    if value is None or (isinstance(value, str) and not value.strip()) or (not text and len(value) == 0):
        raise ValueError(f"column {name!r} is empty")
    if text and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if text and not isinstance(value, str):
        raise ValueError(f"column {name!r} is {type(value).__name__}, not text")
    return value
