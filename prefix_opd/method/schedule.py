"""The prefix schedule: L(step), the number of response tokens that a training rollout may have.

A schedule is a class: its fields are its settings, under ``prefix_opd.schedule``. ``step`` is the 1-based update that
the rollout is trained in (verl's ``global_steps``). The trainer asks for the lengths once a step, when it hands the
prompts out, and stamps them on the rows (`prefix_opd.verl_plugin.trainer.trainer`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import model_validator

from prefix_opd.base.fields import Fields, Tokens
from prefix_opd.method.registry import Registry

ROUNDING = 1e-6
"""Keeps floor() from losing a token where a length is whole but for the rounding of floats."""


class Schedule(Fields):
    """L by step. A subclass defines `prefix_length`, or `prefix_lengths` where rows have lengths of their own.

    A schedule may adapt: it keeps its state in attributes that begin with an underscore and changes it in `observe`
    alone, so that a checkpoint can hold the state and a resumed run finds the same lengths. A value of the state is
    what JSON can hold.
    """

    maximum: Tokens | None = None
    """Upper bound of L, tokens; none: data.max_response_length."""

    def prefix_length(self, step: int, longest: int) -> float:
        """L at a step. It may be fractional or out of range: `prefix_lengths` rounds it down and bounds it.

        Args:
            step: the update, from 1.
            longest: the upper bound of L, tokens.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no prefix_length")

    def prefix_lengths(self, step: int, longest: int, rows: int) -> Sequence[float]:
        """L of each of the ``rows`` prompts of a step. The n rollouts of a prompt share its length."""
        return [self.prefix_length(step, longest)] * rows

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Called once after each finished update, with its metrics by their names in metrics.jsonl.

        They include a probe's of that step. Seconds and the validation that follows the update are not among them.
        """

    @property
    def adapts(self) -> bool:
        """Whether L depends on what a run observes."""
        return type(self).observe is not Schedule.observe

    def state_dict(self) -> dict[str, Any]:
        return dict(self.__pydantic_private__ or {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def named_lengths(self) -> dict[str, int]:
        """The lengths that the settings name outright, tokens: none may exceed the longest response."""
        return {} if self.maximum is None else {"maximum": self.maximum}


def prefix_lengths(schedule: Schedule, step: int, rows: int, response_length: int) -> list[int]:
    """L of each row of one update.

    Args:
        step: the update, from 1.
        rows: prompts of the update.
        response_length: verl's ``data.max_response_length``, the longest response that the run allows.

    Returns:
        (rows,) tokens, 1 <= L <= min(schedule.maximum, response_length). At least 1: a rollout without tokens has
        nothing to learn from, and verl cannot carry one.
    """
    if step < 1:
        raise ValueError(f"step={step}: the first update is step 1")
    longest = min(schedule.maximum or response_length, response_length)
    asked = schedule.prefix_lengths(step, longest, rows)
    if len(asked) != rows:
        raise ValueError(f"step {step}: the schedule gave {len(asked)} lengths for {rows} rows")
    return [max(1, math.floor(min(length, longest) + ROUNDING)) for length in asked]


SCHEDULES: Registry[Schedule] = Registry("schedule", default="linear")


@SCHEDULES.register("full")
class Full(Schedule):
    """No prefix: full on-policy distillation."""

    def prefix_length(self, step: int, longest: int) -> float:
        return longest


@SCHEDULES.register("constant")
class Constant(Schedule):
    """A fixed prefix (arXiv 2602.15260, section 4.2)."""

    length: Tokens = 256
    """L, tokens."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.length

    def named_lengths(self) -> dict[str, int]:
        return {**super().named_lengths(), "length": self.length}


class _Growing(Schedule):
    start: Tokens = 1
    """L at step 1, tokens."""

    def named_lengths(self) -> dict[str, int]:
        return {**super().named_lengths(), "start": self.start}


@SCHEDULES.register("linear")
class Linear(_Growing):
    """``start + increment * (step - 1)``: 1, 257, 513, … for the paper's start 1 and increment 256 (section 4.4)."""

    increment: Tokens = 256
    """Growth of L after each update, tokens."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.start + self.increment * (step - 1)


@SCHEDULES.register("steps")
class Steps(Schedule):
    """A staircase: the length of the last pair (first step, length) whose first step is reached."""

    steps: tuple[tuple[Tokens, Tokens], ...] = ()
    """(first step, L in tokens) pairs, rising, the first from step 1."""

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


class _GrowingOver(_Growing):
    over: Tokens = 1
    """The step at which L reaches its maximum."""

    def progress(self, step: int) -> float:
        """0 at step 1, 1 from step ``over`` on."""
        return min(1.0, (step - 1) / max(1, self.over - 1))


@SCHEDULES.register("cosine")
class Cosine(_GrowingOver):
    """From ``start`` to the maximum along half a cosine wave: slow, fast, slow."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.start + (longest - self.start) * (1 - math.cos(math.pi * self.progress(step))) / 2


@SCHEDULES.register("geometric")
class Geometric(_GrowingOver):
    """From ``start`` to the maximum by a constant factor a step."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.start * (longest / self.start) ** self.progress(step)
