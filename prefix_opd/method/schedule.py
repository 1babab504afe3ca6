"""The prefix schedule: L(step), the number of response tokens that a training rollout may have.

A schedule is a function of the step and the settings alone, so a resumed run needs no stored state to find the
same L. ``step`` is the 1-based update that the rollout is trained in (verl's ``global_steps``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefix_opd.config.settings import ScheduleSettings

Schedule = Callable[[int, "ScheduleSettings", int], float]

SCHEDULES: dict[str, Schedule] = {}

ROUNDING = 1e-6
"""Keeps floor() from losing a token where a length is whole but for the rounding of floats."""


def register_schedule(name: str) -> Callable[[Schedule], Schedule]:
    """Make a function ``(step, settings, longest) -> length`` available as ``prefix_opd.schedule.name=NAME``.

    The result may be fractional or out of range: `prefix_length` rounds down and bounds it.
    """

    def add(schedule: Schedule) -> Schedule:
        if name in SCHEDULES:
            raise ValueError(f"schedule {name!r} is registered already; choose another name")
        SCHEDULES[name] = schedule
        return schedule

    return add


def prefix_length(step: int, settings: ScheduleSettings, response_length: int) -> int:
    """L for one update.

    Args:
        step: the update, from 1.
        settings: ``prefix_opd.schedule``.
        response_length: verl's ``data.max_response_length``, the longest response that the run allows.

    Returns:
        L in tokens, 1 <= L <= min(settings.maximum, response_length). At least 1: a rollout without tokens has
        nothing to learn from, and verl cannot carry one.
    """
    if step < 1:
        raise ValueError(f"step={step}: the first update is step 1")
    longest = min(settings.maximum or response_length, response_length)
    length = SCHEDULES[settings.name](step, settings, longest)
    return max(1, min(math.floor(length + ROUNDING), longest))


@register_schedule("full")
def full(step: int, settings: ScheduleSettings, longest: int) -> float:
    """No prefix: full on-policy distillation."""
    return longest


@register_schedule("constant")
def constant(step: int, settings: ScheduleSettings, longest: int) -> float:
    """A fixed prefix of ``length`` tokens (arXiv 2602.15260, section 4.2)."""
    return settings.length


@register_schedule("linear")
def linear(step: int, settings: ScheduleSettings, longest: int) -> float:
    """``start + increment * (step - 1)``: 1, 257, 513, … for the paper's start 1 and increment 256 (section 4.4)."""
    return settings.start + settings.increment * (step - 1)


@register_schedule("steps")
def steps(step: int, settings: ScheduleSettings, longest: int) -> float:
    """A staircase: the length of the last pair (first step, length) whose first step is reached."""
    return next(length for first_step, length in reversed(settings.steps) if step >= first_step)


@register_schedule("cosine")
def cosine(step: int, settings: ScheduleSettings, longest: int) -> float:
    """From ``start`` to the maximum along half a cosine wave: slow, fast, slow; there at step ``over``."""
    return settings.start + (longest - settings.start) * (1 - math.cos(math.pi * _progress(step, settings))) / 2


@register_schedule("geometric")
def geometric(step: int, settings: ScheduleSettings, longest: int) -> float:
    """From ``start`` to the maximum by a constant factor a step; there at step ``over``."""
    return settings.start * (longest / settings.start) ** _progress(step, settings)


def _progress(step: int, settings: ScheduleSettings) -> float:
    """0 at step 1, 1 from step ``over`` on."""
    return min(1.0, (step - 1) / max(1, settings.over - 1))
