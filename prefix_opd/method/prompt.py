"""The prompt ending: text appended to the chat template for student and teacher, e.g. ``<think>``.

A sampled-token KL teaches special tokens badly: a student that must produce ``<think>`` itself keeps sampling another
token (arXiv 2602.15260, section 4.1). So the prompt ends with the tag. The chat template itself is changed: agent
loops, length filter, validation and the exported model then see the same prompt.
"""

from __future__ import annotations

from prefix_opd.base.errors import UserError

_EXAMPLE = [{"role": "user", "content": "1+1="}]


def template_with_ending(chat_template: str, ending: str) -> str:
    """A chat template whose generation prompt ends with ``ending``."""
    return chat_template + _snippet(ending)


def without_ending(chat_template: str, ending: str) -> str:
    """Undo `template_with_ending`. A template without the ending is returned unchanged."""
    return chat_template.removesuffix(_snippet(ending))


def _snippet(ending: str) -> str:
    quoted = ending.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "{% if add_generation_prompt %}{{ '" + quoted + "' }}{% endif %}"


def check_template(tokenizer, template, key: str) -> None:
    """Reject a chat template that cannot render a question. Raises UserError."""
    try:
        if not _prompt_ids(tokenizer, template):
            raise ValueError("it renders nothing")
    except Exception as error:  # a template is a program and may raise anything
        raise UserError(key, f"does not render a question ({type(error).__name__}: {str(error)[:120]})") from None


def forced_template(tokenizer, ending: str, key: str, allow_split: bool = False, template: str | None = None) -> str:
    """The chat template with the ending, after a check that exactly the ending's tokens are added.

    Args:
        tokenizer: the student's (the teacher has the same vocabulary).
        ending: the text, e.g. ``<think>``.
        key: config key of the model, for messages.
        allow_split: accept an ending of several tokens.
        template: the user's template in place of the tokenizer's.

    Raises:
        UserError: there is no chat template, it already has the ending, or the tokenizer splits the ending or merges
            it with the text before it.
    """
    own = tokenizer.chat_template if template is None else template
    if not isinstance(own, str):
        raise UserError(f"{key}={tokenizer.name_or_path}", "has no chat template", "give one in its tokenizer files")
    check_template(tokenizer, own, f"{key}: its chat template" if template is None else "custom_chat_template")
    ids = tokenizer.encode(ending, add_special_tokens=False)
    if len(ids) != 1 and not allow_split:
        pieces = ", ".join(repr(tokenizer.decode([token])) for token in ids[:6])
        raise UserError(
            f"prefix_opd.prompt.ending={ending}",
            f"the tokenizer splits it into {len(ids)} tokens ({pieces})",
            "name one token of the vocabulary, or set prefix_opd.prompt.allow_split=true",
        )
    before, after = (_prompt_ids(tokenizer, template) for template in (own, template_with_ending(own, ending)))
    if before[-len(ids) :] == ids:
        raise UserError(
            f"prefix_opd.prompt.ending={ending}",
            "the chat template ends with it already",
            "set prefix_opd.prompt.ending=null",
        )
    if after != before + ids:
        raise UserError(
            f"prefix_opd.prompt.ending={ending}",
            "it does not stand as tokens of its own at the end of the prompt",
            "choose a text that the tokenizer does not merge with the end of the chat template",
        )
    return template_with_ending(own, ending)


def _prompt_ids(tokenizer, template: str) -> list[int]:
    text = tokenizer.apply_chat_template(_EXAMPLE, chat_template=template, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(text, add_special_tokens=False)
