"""The tokenizer against Qwen3's conventions."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.tokenizer import END_OF_TEXT, IM_END, ROLES, SPECIAL, TAGS, build_tokenizer, prompt_text

QUESTION = "7+3-5+8:b"
RESPONSE = "b+3=10;a-5=05;</think>05<|im_end|>"


@pytest.fixture(scope="module", params=["built", "teacher", "student"])
def tokenizer(request: pytest.FixtureRequest):
    """The tokenizer as built by the code, and as read from the shipped folders."""
    if request.param == "built":
        return build_tokenizer()
    return AutoTokenizer.from_pretrained(shipped_models()[request.param])


@pytest.mark.parametrize("piece", [*SPECIAL, *TAGS, *ROLES])
def test_one_id(tokenizer, piece: str) -> None:
    assert len(tokenizer(piece)["input_ids"]) == 1


def test_one_token_a_character(tokenizer) -> None:
    assert len(tokenizer("?a+37=105;")["input_ids"]) == 10


def test_template(tokenizer) -> None:
    expected = "<|im_start|>user\n7+3-5+8:b<|im_end|>\n<|im_start|>assistant\n<think>"
    assert prompt_text(tokenizer, QUESTION) == expected


def test_template_with_system_message(tokenizer) -> None:
    messages = [{"role": "system", "content": "Add."}, {"role": "user", "content": "7"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n7<|im_end|>\n"


def test_think_appended_as_an_id_equals_the_whole_text(tokenizer) -> None:
    """The pipeline appends the id of <think> to the template's ids, but training tokenized the whole text at once."""
    messages = [{"role": "user", "content": QUESTION}]
    template = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    think = tokenizer.convert_tokens_to_ids("<think>")
    response = tokenizer(RESPONSE)["input_ids"]
    assert [*template, think, *response] == tokenizer(prompt_text(tokenizer, QUESTION) + RESPONSE)["input_ids"]


def test_any_text_survives(tokenizer) -> None:
    text = "users' systems: 你好\n\n\t½ <think>x</think>"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_ends() -> None:
    folders = shipped_models()
    teacher, student = (AutoTokenizer.from_pretrained(folders[role]) for role in ("teacher", "student"))
    assert (teacher.eos_token, student.eos_token) == (IM_END, END_OF_TEXT)
    assert teacher.pad_token == student.pad_token == END_OF_TEXT
    assert teacher.get_vocab() == student.get_vocab()
