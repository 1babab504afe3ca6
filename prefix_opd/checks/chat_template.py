"""The chat template of a run or an evaluation, and what its rendered prompts say to the grader."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from prefix_opd.base.errors import UserError
from prefix_opd.config.keys import TEMPLATE_KEY
from prefix_opd.config.models import Model
from prefix_opd.config.settings import PromptSettings
from prefix_opd.method.prompt import KEY, SWITCH_KEY, THINK_START, PromptForm, check_template, prompt_end

GRADER_ARGUMENTS = "reward.custom_reward_function.reward_kwargs"


def template_variables(config: DictConfig) -> dict[str, Any]:
    """``data.apply_chat_template_kwargs`` as a plain dict."""
    given = OmegaConf.select(config, "data.apply_chat_template_kwargs")
    return dict(OmegaConf.to_container(given, resolve=True)) if given else {}


def form_of(config: DictConfig, prompt: PromptSettings) -> PromptForm:
    """How the end of a prompt is made. Raises UserError if the template's switch contradicts ``prompt.thinking``."""
    given = template_variables(config).get("enable_thinking")
    if given is not None and not isinstance(given, bool):
        raise UserError(f"{SWITCH_KEY}={given}", "must be true or false")
    if prompt.thinking == "off" and given:
        raise UserError(f"{SWITCH_KEY}=true", f"contradicts {KEY}.thinking=off", "leave the one out")
    return PromptForm(prompt.thinking, prompt.ending, False if prompt.thinking == "off" else given, prompt.allow_split)


def fill_in_template(config: DictConfig, prompt: PromptSettings, model: Model, evaluated: bool = False) -> None:
    """Write the chat template, and for the grader what a rendered prompt says of the thinking.

    A config that was filled in before stays as it is. An ``evaluated`` model may bring a template that has the ending
    already, as an exported checkpoint does. Raises UserError as `PromptForm.checked` does.
    """
    form, own = form_of(config, prompt), OmegaConf.select(config, TEMPLATE_KEY)
    template = model.tokenizer.chat_template if own is None else own
    has_ending = evaluated and isinstance(template, str) and prompt.ending and own is None
    if has_ending and prompt_end(model.tokenizer, template).endswith(prompt.ending):
        form = PromptForm(switch=form.switch)
    for name, value in template_variables(config).items() if isinstance(template, str) else ():
        if name != "enable_thinking" and not re.search(rf"\b{re.escape(str(name))}\b", template):
            what = f"data.apply_chat_template_kwargs.{name}={value}"
            raise UserError(what, "is not read by the chat template", "leave it out")
    with open_dict(config):
        if form == PromptForm():
            if own is not None:
                check_template(model.tokenizer, own, TEMPLATE_KEY)
        else:
            template = form.checked(model.tokenizer, model.key, own)
            config.actor_rollout_ref.model.custom_chat_template = template
        grader = OmegaConf.select(config, GRADER_ARGUMENTS)
        if isinstance(template, str) and OmegaConf.is_interpolation(grader, "prompt_ending"):
            # from the first tag on: what comes before says nothing of the thinking
            end = prompt_end(model.tokenizer, template, **template_variables(config))
            _, tag, after = end.partition(THINK_START)
            grader.prompt_ending = f"{tag}{after}" or None
