"""What a plan assumes, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.cost.arithmetic import ACCELERATORS, PHASES, ResponseLengths
from prefix_opd.method.flops import StepFlops


@dataclass(frozen=True)
class Assumptions:
    """Quantities that a config does not contain."""

    mean_prompt: float | None = None
    """Mean prompt length, tokens; none: `MEAN_PROMPT`, or half of data.max_prompt_length if that is less."""
    mean_teacher_prompt: float | None = None
    """Mean length of the teacher's own prompts, tokens; none: the student's and half of the room that the teacher has
    beyond it."""
    responses: ResponseLengths = ResponseLengths()
    """Response lengths without a cap; none: every rollout reaches its cap."""
    accelerator: str | None = None
    """A key of `ACCELERATORS`; none: prefix_opd.accelerator, else a100, or cpu on that platform."""
    memory_gib: float | None = None
    """Memory of a card, where it is known; none: that of the accelerator."""
    utilisation: dict[str, float] = field(default_factory=dict)
    """By phase, share of the peak; replaces `UTILISATION`."""
    source_shares: dict[str, float] | None = None
    """With several teachers: share of each data source in the rollouts; none: equal shares."""
    tflops: dict[str, float] = field(default_factory=dict)
    """By phase, TFLOP/s of one GPU; replaces peak times utilisation."""

    def __post_init__(self) -> None:
        for option, mean in (("mean-prompt", self.mean_prompt), ("mean-teacher-prompt", self.mean_teacher_prompt)):
            if mean is not None and not 0 < mean < math.inf:
                raise UserError(f"--{option} {mean}", "must be above 0 and finite")
        if self.accelerator is not None and self.accelerator not in ACCELERATORS:
            raise UserError(f"--accelerator {self.accelerator}", f"is not one of {', '.join(ACCELERATORS)}")
        for option, values, most in (("utilisation", self.utilisation, 1.0), ("tflops", self.tflops, 1e6)):
            for phase, value in values.items():
                if phase not in PHASES:
                    raise UserError(f"--{option} {phase}={value}", f"the phases are {', '.join(PHASES)}")
                if not 0 < value <= most:
                    raise UserError(f"--{option} {phase}={value}", f"must be above 0 and at most {most:g}")

    def check_prompts(self, longest: int, teachers_longest: int) -> None:
        """Reject a mean that exceeds the longest prompt, tokens. Raises UserError."""
        for option, mean, key, most in (
            ("mean-prompt", self.mean_prompt, "data.max_prompt_length", longest),
            ("mean-teacher-prompt", self.mean_teacher_prompt, "prefix_opd.teacher_prompt.max_length", teachers_longest),
        ):
            if mean is not None and mean > most:
                raise UserError(f"--{option} {mean:g}", f"exceeds {key}={most}", "lower the one or raise the other")


@dataclass(frozen=True)
class Cost:
    """FLOP, tokens and hours of all updates of one schedule."""

    flop: dict[str, StepFlops]
    """By accounting: ``exact`` and ``paper``."""
    tokens: dict[str, float]
    hours: dict[str, float]
    """By phase, and their total."""
    scored: dict[str, float]
    """Exact FLOP of each teacher, by its data source; by "" those of the only teacher."""
    updates: int
    """Number of updates: all of the schedule, or those up to the one that reaches prefix_opd.flop_budget."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "flop": {kind: flops.as_dict() for kind, flops in self.flop.items()},
            "tokens": {kind: round(count) for kind, count in self.tokens.items()},
            "hours": self.hours,
            "teacher_scoring_by_source": self.scored,
        }


@dataclass(frozen=True)
class Plan:
    """Result of `prefix-opd plan`."""

    run: dict[str, Any]
    """Name, models and their parameters, parameters of a LoRA adapter (0: none), updates, rollouts an update, first and
    last L, GPUs, cards in all."""
    cost: Cost
    full_opd: Cost
    """The same updates without a prefix."""
    longest_step: dict[str, Any]
    """The step that takes longest: its number, its largest L, and seconds by phase with their total."""
    memory_gib: dict[str, dict[str, Any]]
    """Result of `prefix_opd.cost.memory`: ``student``, ``teacher`` (the highest peak; several also by name)
    and ``phases`` per GPU, ``host`` per node."""
    assumptions: dict[str, Any]
    notes: list[str]
    courses: dict[str, Cost] = field(default_factory=dict)
    """Only if L adapts: ``shortest`` and ``longest``, where L stays as short or grows as fast as it can."""

    def as_dict(self) -> dict[str, Any]:
        full = self.full_opd.as_dict()
        saved = {kind: self.full_opd.flop[kind].total / self.cost.flop[kind].total for kind in self.cost.flop}
        return {
            "run": self.run,
            **self.cost.as_dict(),
            "memory_gib": self.memory_gib,
            "longest_step": self.longest_step,
            **({"courses": {name: one.as_dict() for name, one in self.courses.items()}} if self.courses else {}),
            "full_opd": {**full, "times_this_run": {**saved, "hours": full["hours"]["total"] / self.hours}},
            "assumptions": self.assumptions,
            "notes": self.notes,
        }

    @property
    def hours(self) -> float:
        return self.cost.hours["total"]
