"""The prefix schedule: L(step), the maximum number of response tokens of a training rollout.

A schedule is a class; its fields are its settings, under ``prefix_opd.schedule``. ``step`` is the update that trains on
the rollout, from 1 (verl's ``global_steps``). When the trainer hands out the prompts of a step, it asks the schedule
for the lengths and writes them on the rows (`prefix_opd.verl_plugin.trainer.lengths`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from prefix_opd.base.fields import Fields, Position, Tokens
from prefix_opd.method.registry import Registry

Need = Literal["probe", "validation", "scores", "drift", "topk"]
"""Probes; validations; the teacher's log-probs of the sampled tokens; an objective that reports drift, or learns from
the teacher's top tokens."""

ROUNDING = 1e-6
"""Added before floor(), so that float rounding cannot lose a token of a whole length."""


class Schedule(Fields):
    """L by step. A subclass defines `prefix_length`, or `prefix_lengths` for a separate length per row.

    An adaptive schedule keeps its state in attributes that start with an underscore and changes them only in `observe`.
    Checkpoints store the state, so a resumed run finds the same lengths. State values must fit into JSON.
    """

    each_rollout: ClassVar[bool] = False
    """Whether `prefix_lengths` returns a length for each rollout, not for each prompt."""
    bounded: ClassVar[tuple[str, ...]] = ("maximum",)
    """Settings in tokens that must be at most the maximum response length."""

    maximum: Tokens | None = None
    """Upper bound of L, tokens; null: data.max_response_length."""
    full_every: Position = 0
    """One update of every so many has the maximum as its L; 0: none."""
    full_from: Tokens | None = None
    """From this update on L is the maximum; null: never."""

    def prefix_length(self, step: int, longest: int) -> float:
        """L at a step, at most ``longest`` tokens. The function `prefix_lengths` rounds it down and clips it."""
        raise NotImplementedError(f"{type(self).__name__} defines no prefix_length")

    def prefix_lengths(self, step: int, longest: int, rows: int) -> Sequence[float]:
        """(rows,) L of each prompt of a step, which its n rollouts share; with `each_rollout` of each rollout."""
        return [self.prefix_length(step, longest)] * rows

    def survival(self, step: int, longest: int) -> list[float] | None:
        """(longest,) P(L >= t) for t = 1 … longest, where L is drawn at random; None where it is not."""
        return None

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Called once after each finished update, with its metrics under their names in metrics.jsonl.

        The metrics include those of the step's probe, and the accuracies of the validation before the update, if there
        was one. They include neither seconds nor the validation after the update.
        """

    def signal_of(self, metrics: Mapping[str, float]) -> tuple[float, float | None] | None:
        """The value that decides about L in an update, and its threshold, for the metrics and the report.

        Called before `observe` with the same metrics; changes nothing. None: the update has no such signal.
        """
        return None

    def needs(self) -> set[Need]:
        """What the schedule needs from a run, beyond what every run has."""
        return set()

    def extremes(self, step: int, longest: int) -> tuple[float, float]:
        """The shortest and the longest L that a step can have, whatever is observed. A plan shows their costs."""
        if self.adapts:
            return 1, longest
        asked = self.prefix_lengths(step, longest, 1)[0]
        return asked, asked

    @property
    def adapts(self) -> bool:
        """Whether L depends on observed metrics."""
        return type(self).observe is not Schedule.observe

    def _longest(self, response_length: int) -> int:
        """Upper bound of L, tokens. ``response_length``: verl's ``data.max_response_length``."""
        return min(self.maximum or response_length, response_length)

    def _is_full(self, step: int) -> bool:
        """Whether `full_every` or `full_from` sets L to its upper bound."""
        first = self.full_from
        return bool(self.full_every and step % self.full_every == 0) or (first is not None and step >= first)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.__pydantic_private__ or {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def named_lengths(self) -> dict[str, int]:
        return {name: value for name in self.bounded if (value := getattr(self, name)) is not None}


def prefix_lengths(schedule: Schedule, step: int, rows: int, response_length: int) -> list[int]:
    """(rows,) L of each row of one update, tokens: from 1, as verl stores no rollout without tokens, to the maximum.

    Args:
        step: the update, from 1.
        rows: number of prompts, or of rollouts where `Schedule.each_rollout` is set.
        response_length: verl's ``data.max_response_length``, tokens.
    """
    if step < 1:
        raise ValueError(f"step={step}: the first update is step 1")
    longest = schedule._longest(response_length)
    asked = [longest] * rows if schedule._is_full(step) else schedule.prefix_lengths(step, longest, rows)
    if len(asked) != rows:
        raise ValueError(f"step {step}: the schedule gave {len(asked)} lengths for {rows} rows")
    return [_whole(length, longest) for length in asked]


def rollout_lengths(
    schedule: Schedule, step: int, prompts: int, rollouts: int, response_length: int
) -> list[int] | list[list[int]]:
    """L of each prompt of an update: (prompts,) tokens, or (prompts, rollouts) where `Schedule.each_rollout` is set."""
    if not schedule.each_rollout:
        return prefix_lengths(schedule, step, prompts, response_length)
    flat = prefix_lengths(schedule, step, prompts * rollouts, response_length)
    return [flat[first : first + rollouts] for first in range(0, len(flat), rollouts)]


def survival(schedule: Schedule, step: int, response_length: int) -> list[float] | None:
    """P(L >= t) for t = 1, 2, … up to the longest L; None where the schedule draws no L at random."""
    longest = schedule._longest(response_length)
    found = schedule.survival(step, longest)
    return [1.0] * longest if found is not None and schedule._is_full(step) else found


def extreme_lengths(schedule: Schedule, step: int, response_length: int) -> tuple[int, int]:
    """The shortest and the longest L of an update, whatever the schedule observes, tokens."""
    longest = schedule._longest(response_length)
    low, high = (longest, longest) if schedule._is_full(step) else schedule.extremes(step, longest)
    return _whole(low, longest), _whole(high, longest)


def _whole(length: float, longest: int) -> int:
    return max(1, math.floor(min(length, longest) + ROUNDING))


SCHEDULES: Registry[Schedule] = Registry("schedule", default="linear")


@SCHEDULES.register("full")
class Full(Schedule):
    """No prefix: full on-policy distillation."""

    def prefix_length(self, step: int, longest: int) -> float:
        return longest


@SCHEDULES.register("constant")
class Constant(Schedule):
    """A fixed prefix (arXiv 2602.15260, section 4.2)."""

    bounded = ("maximum", "length")

    length: Tokens = 256
    """L, tokens."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.length


class Growing(Schedule):
    bounded: ClassVar[tuple[str, ...]] = ("maximum", "start")

    start: Tokens = 1
    """L at step 1, tokens."""


@SCHEDULES.register("linear")
class Linear(Growing):
    """``start + increment * (step - 1)``: 1, 257, 513, … for the paper's start 1 and increment 256 (section 4.4)."""

    increment: Tokens = 256
    """Growth of L, tokens: after each update, or each time that an adaptive schedule grows."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.start + self.increment * (step - 1)


@SCHEDULES.register("steps")
class Steps(Schedule):
    """A staircase of (first step, L) pairs. The last pair with first step <= step applies."""

    steps: tuple[tuple[Tokens, Tokens], ...] = ()
    """(first step, L in tokens) pairs. First steps rise and begin at 1."""

    @model_validator(mode="after")
    def _in_order(self) -> Steps:
        first_steps = [first_step for first_step, _ in self.steps]
        if not first_steps:
            raise ValueError("steps=[] is empty; give pairs of first step and length, e.g. [[1,256],[21,1024]]")
        if first_steps[0] != 1 or first_steps != sorted(set(first_steps)):
            raise ValueError(f"steps has first steps {first_steps}; they must start at 1 and rise")
        return self

    def prefix_length(self, step: int, longest: int) -> float:
        return next(length for first_step, length in reversed(self.steps) if step >= first_step)

    def named_lengths(self) -> dict[str, int]:
        return {**super().named_lengths(), "steps": max(length for _, length in self.steps)}


class Over(Schedule):
    over: Tokens = 1
    """The step at which L reaches its maximum."""

    def progress(self, step: int) -> float:
        """0 at step 1, 1 from step ``over`` on."""
        return min(1.0, (step - 1) / max(1, self.over - 1))


@SCHEDULES.register("cosine")
class Cosine(Over, Growing):
    """From ``start`` to the maximum along half a cosine wave: slow, fast, slow."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.start + (longest - self.start) * (1 - math.cos(math.pi * self.progress(step))) / 2


@SCHEDULES.register("geometric")
class Geometric(Over, Growing):
    """From ``start`` to the maximum by a constant factor per step."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.start * (longest / self.start) ** self.progress(step)


@SCHEDULES.register("power")
class Power(Over, Growing):
    """From ``start`` to the maximum by a power of the progress: convex, slow at first, for a power above 1."""

    power: Annotated[float, Field(gt=0)] = 2.0
    """Exponent: 1 linear, 2 quadratic."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.start + (longest - self.start) * self.progress(step) ** self.power
