"""The modes of thinking, from the config to verl's template and the grader."""

import pytest
from chat_templates import OPEN, SWITCHED
from verl.trainer.ppo.reward import get_custom_reward_fn

from prefix_opd.base.errors import UserError
from prefix_opd.checks.chat_template import fill_in_template
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import STUDENT_KEY
from prefix_opd.config.models import Model
from prefix_opd.method.prompt import PromptForm

OFF = "+data.apply_chat_template_kwargs.enable_thinking=false"
ON = "+data.apply_chat_template_kwargs.enable_thinking=true"
THINKING = "prefix_opd.prompt.thinking"
CLOSED = "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("overrides", "template", "end", "at_once"),
    [
        ([], SWITCHED, "<think>", 0.0),
        ([f"{THINKING}=template"], SWITCHED, "", 1.0),  # the student opens its thought itself, or does not think
        ([f"{THINKING}=template", ON], SWITCHED, "", 1.0),
        ([f"{THINKING}=template", OFF], SWITCHED, CLOSED, 1.0),
        ([f"{THINKING}=off"], SWITCHED, CLOSED, 1.0),
        ([f"{THINKING}=off"], None, "", 1.0),  # the miniature's template has no switch
        (["prefix_opd.prompt.ending=null"], SWITCHED, "", 1.0),
        (["prefix_opd.prompt.ending=null"], OPEN, "<think>", 0.0),  # a template that always opens the thinking
    ],
)
def test_the_rendered_prompt_decides_what_the_grader_requires(case, model, overrides, template, end, at_once):
    opened = case(f"{STUDENT_KEY}={model('student', chat_template=template)}", *overrides)
    config, student = opened.config, opened.student
    check(config)
    for _ in range(2):  # a config that was filled in stays as it is
        fill_in_template(config, opened.settings.prompt, student)
        prompt = student.prompt(
            [{"role": "user", "content": "1+1="}],
            config.actor_rollout_ref.model.custom_chat_template,
            **config.data.apply_chat_template_kwargs,
        )
        assert prompt.endswith(f"<|im_start|>assistant\n{end}")
        grade = get_custom_reward_fn(config)  # verl's own, as its reward workers make it
        assert grade("math500", r"\boxed{42}", "42")["score"] == grade("tiny/chain", "42", "42")["score"] == at_once
        assert grade("math500", r"hm</think>\boxed{42}", "42")["score"] == 1.0
        assert grade("tiny/chain", "a+3=42;</think>42<|im_end|>", "42")["score"] == 1.0


def test_the_users_own_rule_for_the_grader_stays(case):
    config = case("++reward.custom_reward_function.reward_kwargs.prompt_ending=null").config
    check(config)
    assert config.reward.custom_reward_function.reward_kwargs.prompt_ending is None


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([f"{THINKING}=template"], f"{THINKING}=template: the chat template of {STUDENT_KEY} has no switch"),
        ([f"{THINKING}=off", ON], "enable_thinking=true: contradicts prefix_opd.prompt.thinking=off"),
        (
            [f"{THINKING}=off", 'prefix_opd.prompt.ending="<think>"'],
            "is read only with prompt.thinking=forced",
        ),
        ([f"{THINKING}=maybe"], f"{THINKING}=maybe: input should be 'forced', 'template' or 'off'"),
        (["+data.apply_chat_template_kwargs.enable_thinking=no_way"], "enable_thinking=no_way: must be true or false"),
    ],
)
def test_contradictions_are_refused(overrides, told):
    with pytest.raises(UserError) as error:
        check(compose(["experiment=tiny/schedule", *overrides]))
    assert told in str(error.value)


def test_an_exported_model_is_asked_in_the_mode_of_its_run(model):
    """The exported template has the switch fixed, and an evaluation that does not know of it must not force a tag."""
    student = Model("model", str(model("student", chat_template=SWITCHED)))
    exported = PromptForm("off", switch=False).checked(student.tokenizer, "model")
    with pytest.raises(UserError, match="thinking is switched off, and <think> is forced after it; set .*thinking=off"):
        PromptForm("forced", "<think>").checked(student.tokenizer, "model", exported)
    assert PromptForm("off", switch=False).checked(student.tokenizer, "model", exported) == exported
