"""The forced prompt ending, on the miniature's tokenizer."""

import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.method.prompt import forced_template, template_with_ending
from prefix_opd.miniature.tokenizer import build_tokenizer

MESSAGES = [{"role": "user", "content": "1 a+2"}]
KEY = "actor_rollout_ref.model.path"


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def prompt(tokenizer, template, **kwargs):
    return tokenizer.apply_chat_template(MESSAGES, chat_template=template, tokenize=False, **kwargs)


def test_the_ending_stands_after_the_generation_prompt_and_nowhere_else(tokenizer):
    template = forced_template(tokenizer, "<think>", KEY)
    assert prompt(tokenizer, template, add_generation_prompt=True).endswith("<|im_start|>assistant\n<think>")
    assert "<think>" not in prompt(tokenizer, template, add_generation_prompt=False)


def test_its_tokens_are_the_prompts_and_one_more(tokenizer):
    before = tokenizer.encode(prompt(tokenizer, None, add_generation_prompt=True))
    after = tokenizer.encode(prompt(tokenizer, forced_template(tokenizer, "<think>", KEY), add_generation_prompt=True))
    assert after == [*before, tokenizer.convert_tokens_to_ids("<think>")]


def test_quotes_and_line_ends_reach_the_prompt_as_they_are(tokenizer):
    template = template_with_ending(tokenizer.chat_template, "it's\n\\done")
    assert prompt(tokenizer, template, add_generation_prompt=True).endswith("assistant\nit's\n\\done")


def test_an_ending_that_the_tokenizer_splits_is_refused_unless_allowed(tokenizer):
    with pytest.raises(UserError, match="splits it into .* tokens") as error:
        forced_template(tokenizer, "<thought>", KEY)
    assert "prefix_opd.prompt.ending=<thought>" in str(error.value)
    allowed = forced_template(tokenizer, "<thought>", KEY, allow_split=True)
    assert prompt(tokenizer, allowed, add_generation_prompt=True).endswith("<thought>")


def test_a_template_that_ends_with_it_already_is_refused(tokenizer):
    twice = build_tokenizer()
    twice.chat_template = template_with_ending(twice.chat_template, "<think>")
    with pytest.raises(UserError, match="ends with it already"):
        forced_template(twice, "<think>", KEY)


def test_a_tokenizer_without_a_template_is_refused():
    bare = build_tokenizer()
    bare.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        forced_template(bare, "<think>", KEY)
