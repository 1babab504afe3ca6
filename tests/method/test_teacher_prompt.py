"""The teacher's own prompt: its conversation, and its token ids."""

import pytest
from pydantic import ValidationError

from prefix_opd.method.teacher_prompt import TeacherPrompt, prompt_ids
from prefix_opd.miniature.tokenizer import build_tokenizer

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1={x}?"}]
ROW = {"solution": r"\boxed{2}", "extra_info": {"hint": "count", "level": 3, "none": None}, "blank": " ", "list": [1]}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ASKED),
        ({"template": "{prompt}\nSolution: {solution}"}, [ASKED[0], ("user", "1+1={x}?\nSolution: \\boxed{2}")]),
        ({"template": "{{{prompt}}} level {extra_info.level}"}, [ASKED[0], ("user", "{1+1={x}?} level 3")]),
        ({"system": "Hint: {extra_info.hint}"}, [("system", "Hint: count"), ASKED[1]]),
        ({"system": "You know.", "template": "{prompt}!"}, [("system", "You know."), ("user", "1+1={x}?!")]),
        ({"column": "solution"}, [("user", r"\boxed{2}")]),
    ],
)
def test_the_teachers_conversation(settings, expected):
    made = TeacherPrompt(**settings)
    expected = [dict(zip(("role", "content"), one, strict=True)) if isinstance(one, tuple) else one for one in expected]
    assert made.messages(ASKED, ROW) == expected and made.is_own == bool(settings)
    assert ASKED[1]["content"] == "1+1={x}?", "the student's prompt stays as it is"


def test_a_column_holds_a_whole_conversation():
    whole = [{"role": "user", "content": "1+1, which is 2"}]
    assert TeacherPrompt(column="teacher_prompt").messages(ASKED, {"teacher_prompt": whole}) == whole


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"column": "absent"}, "has no 'absent'"),
        ({"column": "blank"}, "column 'blank' is empty"),
        ({"template": "{prompt} {extra_info.none}"}, "column 'extra_info.none' is empty"),
        ({"template": "{prompt} {extra_info.absent}"}, "has no 'extra_info.absent'"),
        ({"template": "{prompt} {solution.inner}"}, "has no 'solution.inner'"),
        ({"system": "{list}"}, "column 'list' is list, not text"),
    ],
)
def test_a_missing_value_is_named(settings, told):
    with pytest.raises(ValueError, match=told):
        TeacherPrompt(**settings).messages(ASKED, ROW)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"template": "no question {solution}"}, "template lacks {prompt}"),
        ({"template": "{prompt} {"}, "is not a template"),
        ({"template": r"{prompt} \boxed{}"}, "{} is not a field"),
        ({"template": "{prompt!r}"}, "{prompt} is not a field"),
        ({"column": "a", "system": "b"}, "column=a is the whole prompt"),
    ],
)
def test_a_text_that_is_no_template_is_refused(settings, told):
    with pytest.raises(ValidationError) as error:
        TeacherPrompt(**settings)
    assert told in str(error.value)


def test_which_columns_are_read():
    own = TeacherPrompt(template="{prompt} {solution} {extra_info.hint}", system="{extra_info.level}")
    assert own.columns == ["solution", "extra_info"]
    assert TeacherPrompt(column="teacher_prompt").columns == ["teacher_prompt"] and TeacherPrompt().columns == []


def test_an_assistant_message_at_the_end_follows_the_prompts_ending():
    tokenizer = build_tokenizer()
    template = tokenizer.chat_template + "{% if add_generation_prompt %}<think>{% endif %}"
    asked = [{"role": "user", "content": "7+3:a"}]
    ids = prompt_ids(tokenizer, asked, template)
    begun = prompt_ids(tokenizer, [*asked, {"role": "assistant", "content": "a+3="}], template)
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n<think>")
    assert begun == ids + tokenizer.encode("a+3=", add_special_tokens=False)
