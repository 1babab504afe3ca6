"""The prefix schedule: L(step), the maximum number of response tokens of a training rollout.

A schedule is a class. Its fields are its settings, under ``prefix_opd.schedule``. ``step`` is the update that trains on
the rollout, from 1 (verl's ``global_steps``). Once per step, when prompts are handed out, the trainer asks the schedule
for the lengths and writes them on the rows (`prefix_opd.verl_plugin.trainer.trainer`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import model_validator

from prefix_opd.base.fields import Fields, Tokens
from prefix_opd.method.registry import Registry

ROUNDING = 1e-6
"""Added before floor(), so that float rounding cannot lose a token of a whole length."""


class Schedule(Fields):
    """L by step. A subclass defines `prefix_length`, or `prefix_lengths` for a separate length per row.

    An adaptive schedule keeps its state in attributes that start with an underscore and changes them only in `observe`.
    Checkpoints store the state, so a resumed run finds the same lengths. State values must fit into JSON.
    """

    maximum: Tokens | None = None
    """Upper bound of L, tokens; none: data.max_response_length."""

    def prefix_length(self, step: int, longest: int) -> float:
        """L at a step. The function `prefix_lengths` rounds the value down and clips it to its bounds.

        Args:
            step: the update, from 1.
            longest: upper bound of L, tokens.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no prefix_length")

    def prefix_lengths(self, step: int, longest: int, rows: int) -> Sequence[float]:
        """(rows,) L of each prompt of a step. The n rollouts of a prompt share its L."""
        return [self.prefix_length(step, longest)] * rows

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Called once after each finished update, with its metrics under their names in metrics.jsonl.

        The metrics include those of the step's probe. They include neither seconds nor the validation after the update.
        """

    @property
    def adapts(self) -> bool:
        """Whether L depends on observed metrics."""
        return type(self).observe is not Schedule.observe

    def state_dict(self) -> dict[str, Any]:
        return dict(self.__pydantic_private__ or {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def named_lengths(self) -> dict[str, int]:
        """The lengths in the settings, tokens. Each must be at most the maximum response length."""
        return {} if self.maximum is None else {"maximum": self.maximum}


def prefix_lengths(schedule: Schedule, step: int, rows: int, response_length: int) -> list[int]:
    """L of each row of one update.

    Args:
        step: the update, from 1.
        rows: number of prompts.
        response_length: verl's ``data.max_response_length``, tokens.

    Returns:
        (rows,) tokens, 1 <= L <= min(schedule.maximum, response_length). The minimum is 1, because verl cannot store a
        rollout without tokens.
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
    """From ``start`` to the maximum by a constant factor per step."""

    def prefix_length(self, step: int, longest: int) -> float:
        return self.start * (longest / self.start) ** self.progress(step)
