"""The forced prompt ending, on the miniature's tokenizer."""

import pytest
from chat_templates import OPEN, SWITCHED

from prefix_opd.base.errors import UserError
from prefix_opd.method.prompt import PromptForm, opens_thinking, prompt_end, template_with_ending
from prefix_opd.miniature.tokenizer import build_tokenizer

MESSAGES = [{"role": "user", "content": "1 a+2"}]
KEY = "actor_rollout_ref.model.path"
FORCED = PromptForm("forced", "<think>")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def prompt(tokenizer, template, **kwargs):
    return tokenizer.apply_chat_template(MESSAGES, chat_template=template, tokenize=False, **kwargs)


def test_the_ending_stands_after_the_generation_prompt_and_nowhere_else(tokenizer):
    template = FORCED.checked(tokenizer, KEY)
    assert prompt(tokenizer, template, add_generation_prompt=True).endswith("<|im_start|>assistant\n<think>")
    assert "<think>" not in prompt(tokenizer, template, add_generation_prompt=False)


def test_its_tokens_are_the_prompts_and_one_more(tokenizer):
    before = tokenizer.encode(prompt(tokenizer, None, add_generation_prompt=True))
    after = tokenizer.encode(prompt(tokenizer, FORCED.checked(tokenizer, KEY), add_generation_prompt=True))
    assert after == [*before, tokenizer.convert_tokens_to_ids("<think>")]


def test_quotes_and_line_ends_reach_the_prompt_as_they_are(tokenizer):
    template = template_with_ending(tokenizer.chat_template, "it's\n\\done")
    assert prompt(tokenizer, template, add_generation_prompt=True).endswith("assistant\nit's\n\\done")


def test_an_ending_that_the_tokenizer_splits_is_refused_unless_allowed(tokenizer):
    with pytest.raises(UserError, match="splits it into .* tokens") as error:
        PromptForm("forced", "<thought>").checked(tokenizer, KEY)
    assert "prefix_opd.prompt.ending=<thought>" in str(error.value)
    allowed = PromptForm("forced", "<thought>", allow_split=True).checked(tokenizer, KEY)
    assert prompt(tokenizer, allowed, add_generation_prompt=True).endswith("<thought>")


def test_a_template_that_ends_with_it_already_is_refused(tokenizer):
    twice = build_tokenizer()
    twice.chat_template += "{% if add_generation_prompt %}<think>{% endif %}"
    with pytest.raises(UserError, match="ends with it already"):
        FORCED.checked(twice, KEY)


def test_a_tokenizer_without_a_template_is_refused():
    bare = build_tokenizer()
    bare.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        FORCED.checked(bare, KEY)


def test_a_form_that_is_applied_twice_stands_once(tokenizer):
    for form in (FORCED, PromptForm("off", switch=False), PromptForm("template", switch=True)):
        once = form.checked(tokenizer, KEY, SWITCHED)
        assert form.checked(tokenizer, KEY, once) == once and form.own(once) == SWITCHED


@pytest.mark.parametrize(
    ("form", "end"),
    [
        (FORCED, "<|im_end|>\n<|im_start|>assistant\n<think>"),
        (PromptForm("template"), "<|im_end|>\n<|im_start|>assistant\n"),
        (PromptForm("template", switch=True), "<|im_end|>\n<|im_start|>assistant\n"),
        (PromptForm("template", switch=False), "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (PromptForm("off", switch=False), "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    ],
)
def test_the_switch_stands_in_the_template_itself(tokenizer, form, end):
    made = form.checked(tokenizer, KEY, SWITCHED)
    # verl passes the variables of the config too, and an exported model gets none
    given = {} if form.switch is None else {"enable_thinking": form.switch}
    assert prompt_end(tokenizer, made) == end == prompt_end(tokenizer, made, **given)
    assert opens_thinking(end) is (form is FORCED)


def test_a_fixed_switch_adds_no_character(tokenizer):
    own = "\n" + SWITCHED
    made = PromptForm("off", switch=False).checked(tokenizer, KEY, own)
    assert prompt(tokenizer, made, add_generation_prompt=True) == prompt(
        tokenizer, own, add_generation_prompt=True, enable_thinking=False
    )


def test_off_leaves_a_template_without_a_switch_as_it_is(tokenizer):
    own = tokenizer.chat_template
    assert PromptForm("off", switch=False).checked(tokenizer, KEY) == own
    assert not opens_thinking(prompt_end(tokenizer, own))


@pytest.mark.parametrize(
    ("form", "template", "told"),
    [
        (PromptForm("template"), None, "thinking=template: the chat template of .* has no switch"),
        (PromptForm("off", switch=False), OPEN, "thinking=off: the chat template opens the thinking and has no switch"),
        (PromptForm("forced", "<think>", False), SWITCHED, "thinking is switched off, and <think> is forced after it"),
    ],
)
def test_a_mode_that_the_template_contradicts_is_refused(tokenizer, form, template, told):
    with pytest.raises(UserError, match=told):
        form.checked(tokenizer, KEY, template)


@pytest.mark.parametrize(
    ("end", "opens"),
    [
        ("<|im_start|>assistant\n<think>", True),
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n", False),
        ("<think>\n\n</think>\n\n", False),
        ("<think></think><think>", True),
        (None, False),
    ],
)
def test_an_answer_follows_the_thinking_only_if_the_prompt_opens_it(end, opens):
    assert opens_thinking(end) is opens
