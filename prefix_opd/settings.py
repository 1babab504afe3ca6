"""Every setting of ours: the node ``prefix_opd`` of the composed config, checked when it is built.

Settings of verl stay where verl has them. A value that cannot be meant (a length of 0, an unknown name) cannot be
built; what depends on the models or on verl's settings is checked in `prefix_opd.preflight`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError, model_validator

from prefix_opd.errors import UserError
from prefix_opd.schedule import SCHEDULES
from prefix_opd.weighting import WEIGHTINGS


def _whole(value: Any) -> Any:
    """Accept 256 and 256.0 (YAML and shells write both), refuse 0.5, "many" and True."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        raise ValueError("must be a whole number")
    return int(value)


def _known(names: Mapping[str, Any]):
    def check(value: Any) -> Any:
        if value not in names:
            nearest = difflib.get_close_matches(str(value), list(names), n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"is not one of {', '.join(sorted(names))}{hint}")
        return value

    return BeforeValidator(check)


Tokens = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
"""A number of tokens, at least 1."""
Position = Annotated[int, BeforeValidator(_whole), Field(ge=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ScheduleSettings(_Settings):
    """How many response tokens a training rollout may have, by step (`prefix_opd.schedule`)."""

    name: Annotated[str, _known(SCHEDULES)] = "linear"
    """full, constant, linear, steps, cosine or geometric."""
    start: Tokens = 1
    """L at step 1 (linear, cosine, geometric), tokens."""
    increment: Tokens = 256
    """Growth of L after each update (linear), tokens."""
    maximum: Tokens | None = None
    """Upper bound of L, tokens; none: data.max_response_length."""
    length: Tokens = 256
    """L of `constant`, tokens."""
    steps: tuple[tuple[Tokens, Tokens], ...] = ()
    """(first step, L in tokens) pairs of `steps`, rising, the first from step 1."""
    over: Tokens = 1
    """The step at which `cosine` and `geometric` reach the maximum."""

    @model_validator(mode="after")
    def _steps_in_order(self) -> ScheduleSettings:
        if self.name != "steps":
            return self
        first_steps = [first_step for first_step, _ in self.steps]
        if not first_steps:
            raise ValueError("steps=[] is empty; give pairs of first step and length, e.g. [[1,256],[21,1024]]")
        if first_steps[0] != 1 or first_steps != sorted(set(first_steps)):
            raise ValueError(f"steps has first steps {first_steps}; they must start at 1 and rise")
        return self


class PromptSettings(_Settings):
    """What stands at the end of every prompt."""

    ending: str | None = "<think>"
    """Text put after the chat template's generation prompt, for student and teacher alike; none for nothing."""
    allow_split: StrictBool = False
    """Accept an ending of several tokens. A tag that the tokenizer splits is a tag that the teacher never saw."""


class RolloutSettings(_Settings):
    """How rollouts stop and what comes back of them."""

    stop: Literal["both", "student", "teacher"] | tuple[Position, ...] = "both"
    """Whose end tokens stop a rollout, or token ids."""
    final_output_only: StrictBool = True
    """Training: ask the engine for the finished rollout only and for no text, as nobody reads a partial one."""


class AdvantageSettings(_Settings):
    """A_t = stop_grad[log p_teacher - log p_student] (`prefix_opd.advantage`)."""

    student_log_prob: Literal["sampler", "current", "recomputed"] = "sampler"
    """Whose log p_student: the sampler's, that of the policy being updated, or that of a separate pass before it."""
    clamp: Annotated[float, Field(gt=0)] | None = None
    """Bound of |A_t|, nats; none as in the paper."""


class LossSettings(_Settings):
    """The loss -(p_theta / p_rollout) * A_t (`prefix_opd.loss`)."""

    max_ratio: Annotated[float, Field(gt=0)] | None = None
    """Truncate the importance ratio from above; none as in the paper."""


class WeightingSettings(_Settings):
    """Which positions of the prefix teach (`prefix_opd.weighting`)."""

    name: Annotated[str, _known(WEIGHTINGS)] = "uniform"
    """uniform, window or last."""
    start: Position = 0
    """First position of `window`, from 0, tokens."""
    stop: Tokens | None = None
    """The position after the last of `window`, tokens."""
    tokens: Tokens | None = None
    """How many last tokens `last` keeps."""

    @model_validator(mode="after")
    def _complete(self) -> WeightingSettings:
        if self.name == "window" and (self.stop is None or self.stop <= self.start):
            raise ValueError(f"window [{self.start}, {self.stop}) is empty; give stop above start")
        if self.name == "last" and self.tokens is None:
            raise ValueError("name=last needs tokens, the number of last tokens that count")
        return self


class Settings(_Settings):
    """The node ``prefix_opd``."""

    schedule: ScheduleSettings = ScheduleSettings()
    prompt: PromptSettings = PromptSettings()
    rollout: RolloutSettings = RolloutSettings()
    advantage: AdvantageSettings = AdvantageSettings()
    loss: LossSettings = LossSettings()
    weighting: WeightingSettings = WeightingSettings()
    position_bins: Tokens = 16
    """Into how many bins of positions the reverse KL of a step is split in the metrics."""
    poll_seconds: Annotated[float, Field(gt=0, le=2)] = 0.05
    """How often the trainer looks for finished rollouts (verl: 2 s), seconds."""
    allow_any_temperature: StrictBool = False
    """Accept a training temperature other than 1, at which the reward is no estimate of the reverse KL."""

    # Filled in by the launcher from the models at hand, never by hand.
    stop_token_ids: tuple[int, ...] = ()
    ignore_own_end_token: StrictBool = False

    @classmethod
    def from_node(cls, node: Mapping[str, Any], prefix: str = "prefix_opd") -> Settings:
        """Build from the plain dict of the config node; raises UserError that names the value and the rule."""
        try:
            return cls.model_validate(node)
        except ValidationError as error:
            raise _as_user_error(error, prefix) from None


def _as_user_error(error: ValidationError, prefix: str) -> UserError:
    problem = error.errors(include_url=False)[0]
    names = [
        part for part in problem["loc"] if not str(part).startswith(("literal", "tuple", "constrained", "function"))
    ]
    key = ".".join([prefix, *map(str, names)])
    if problem["type"] == "extra_forbidden":
        return UserError(key, "is not a setting", "see `prefix-opd train --help`")
    rule = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = key if isinstance(value, Mapping) else f"{key}={value}"
    return UserError(shown, rule[0].lower() + rule[1:])
