"""The end of the prompt: text forced after the chat template, for student and teacher alike.

A sampled-token KL teaches special tokens badly: a student that must produce ``<think>`` itself keeps trying another
token instead (arXiv 2602.15260, section 4.1). So the tag stands at the end of the prompt. It is added to the chat
template itself, so that every agent loop, the length filter, validation and the exported model see one prompt.
"""

from __future__ import annotations

from prefix_opd.base.errors import UserError

_EXAMPLE = [{"role": "user", "content": "1+1="}]


def template_with_ending(chat_template: str, ending: str) -> str:
    """A chat template whose generation prompt ends with ``ending``."""
    return chat_template + _snippet(ending)


def without_ending(chat_template: str, ending: str) -> str:
    """The template that `template_with_ending` was given; any other as it is."""
    return chat_template.removesuffix(_snippet(ending))


def _snippet(ending: str) -> str:
    quoted = ending.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "{% if add_generation_prompt %}{{ '" + quoted + "' }}{% endif %}"


def check_template(tokenizer, template, key: str) -> None:
    """Refuse a chat template that cannot render a question. Raises UserError."""
    try:
        if not _prompt_ids(tokenizer, template):
            raise ValueError("it renders nothing")
    except Exception as error:  # a template is a program: it may raise what it likes
        raise UserError(key, f"does not render a question ({type(error).__name__}: {str(error)[:120]})") from None


def forced_template(tokenizer, ending: str, key: str, allow_split: bool = False, template: str | None = None) -> str:
    """The template to use in place of the tokenizer's own, after proof that it does what is meant.

    Args:
        tokenizer: of the student (its vocabulary is the teacher's).
        ending: the text, e.g. ``<think>``.
        key: the model's config key, for messages.
        allow_split: accept an ending of several tokens.
        template: what the user gives in place of the tokenizer's own.

    Raises:
        UserError: no chat template; an ending that is split, or that merges with the text before it; a template
            that ends with it already.
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
