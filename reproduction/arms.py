"""The arms of the comparison, and a run of an arm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

PROMPTS, ROLLOUTS = 16, 4
SEQUENCES = PROMPTS * ROLLOUTS
"""Sequences per update, the same for every arm."""
UPDATES = 55
PROBLEMS = 512
"""Number of held-out problems; all are used."""
SEEDS = (0, 1, 2)
VALIDATIONS = 5
"""Validations during training, evenly spread over the updates, after the one before training."""

PREFIX = 24
"""L of the prefix arms that differ in the objective: the paper's 2048 of 16 384, scaled to 192 tokens."""


@dataclass(frozen=True)
class Arm:
    """One row of the table. Example: ``Arm("prefix_3", "prefix 3", "tiny/prefix_3", paper="prefix 256")``."""

    name: str
    label: str
    experiment: str | None = None
    """The experiment of an on-policy arm; None for SeqKD."""
    answer_tokens: int | None = None
    """SeqKD: the number of answer tokens to train on; None for all."""
    paper: str | None = None
    """The corresponding row of the paper (`prefix_opd.method.paper`)."""
    probed: bool = True
    """On-policy: whether the probe runs; it needs the teacher's log-prob of each sampled token."""
    observes: str = ""
    """Contenders: what the schedule observes, "probe" or "validation". The experiment's own is kept, and the probe's
    FLOP and seconds count."""
    more: tuple[str, ...] = ()
    """Overrides on top of the experiment."""


ARMS = (
    Arm("full", "full OPD", "tiny/full", paper="OPD full"),
    Arm("prefix_3", "prefix 3", "tiny/prefix_3", paper="prefix 256"),
    Arm("prefix_12", "prefix 12", "tiny/prefix_12", paper="prefix 1024"),
    Arm("prefix_24", "prefix 24 = window [0, 24)", "tiny/prefix_24", paper="prefix 2048"),
    Arm("schedule", "linear schedule", "tiny/schedule", paper="prefix schedule"),
    Arm("window_72_96", "window [72, 96)", "tiny/window_72_96"),
    Arm("last_24", "window of the last 24", "tiny/last_24"),
    Arm("seqkd", "SeqKD", paper="SeqKD, 1 500 steps"),
    Arm("prefix_seqkd", "prefix SeqKD, 24", answer_tokens=PREFIX),
    Arm("forward_kl_24", "prefix 24, forward KL", "tiny/forward_kl_24", probed=False),
    Arm("lr_1e-4", "schedule, lr 1e-4", "tiny/lr_1e-4"),
    Arm("lr_1e-3", "schedule, lr 1e-3", "tiny/lr_1e-3"),
    Arm("one_step_early", "full OPD, one step early", "tiny/one_step_early", probed=False),
)
CONTENDERS = (
    *(arm for arm in ARMS if arm.name in ("full", "prefix_12", "prefix_24", "schedule", "one_step_early")),
    Arm("topk_full", "full OPD, top 16", "tiny/topk_full", probed=False),
    Arm("topk_schedule", "linear schedule, top 16", "tiny/topk_schedule", probed=False),
    Arm("topk_random", "random truncation, top 16", "tiny/topk_random", probed=False),
    Arm("esr", "ESR, prefix 100", "tiny/esr"),
    Arm("power", "convex growth", "tiny/power"),
    Arm("schedule_full_last", "linear, full length in the end", "tiny/schedule_full_last"),
    Arm("schedule_full_every", "linear, every 11th of full length", "tiny/schedule_full_every"),
    Arm("random", "random truncation", "tiny/random"),
    Arm("random_growing", "random truncation, growing", "tiny/random_growing"),
    Arm("random_weighted", "random truncation, weighted", "tiny/random_weighted"),
    Arm("grow_reverse_kl", "growth by reverse KL", "tiny/grow_reverse_kl"),
    Arm("grow_entropy", "growth by entropy", "tiny/grow_entropy"),
    Arm("grow_validation", "growth by validation", "tiny/grow_validation", observes="validation"),
    Arm("grow_tail", "growth by the tail", "tiny/grow_tail", observes="probe"),
    Arm("budget", "most reverse KL a FLOP", "tiny/budget", observes="probe"),
    Arm("iw_opd", "IW-OPD", "tiny/iw_opd"),
    Arm("iw_opd_schedule", "IW-OPD, linear schedule", "tiny/iw_opd_schedule"),
    Arm("prune_opd", "Prune-OPD", "tiny/prune_opd"),
    Arm("adwin", "ADWIN", "tiny/adwin", observes="probe"),
    Arm("fast_opd", "Adaptive FastOPD", "tiny/fast_opd"),
)
"""The arms of the comparison of schedules (docs/schedules.md): the first one is full OPD, which sets the targets."""
ON_CELLS = ("full", "schedule", "random", "topk_full", "topk_schedule", "topk_random")
"""Contenders with an experiment of the second miniature. The others keep the settings that they have on the first."""
SECOND = (
    "data.train_files=${tiny:cells_train}",
    "data.val_files=${tiny:cells_test}",
    "data.max_response_length=336",
    "actor_rollout_ref.model.path=${tiny:cells_student}",
    "distillation.teacher_models.teacher_model.model_path=${tiny:cells_teacher}",
)
"""What ``cells/base`` has and ``tiny/base`` has not."""
CELLS = (
    *(
        replace(arm, experiment=f"cells/{arm.name}") if arm.name in ON_CELLS else replace(arm, more=SECOND)
        for arm in CONTENDERS
        if arm.name not in ("prefix_12", "prefix_24")
    ),
    Arm("prefix_5", "prefix 5", "cells/prefix_5"),
)
"""The arms of the same comparison on the second miniature."""
MOST_UPDATES = 400
"""Bound of the updates of a contender, whose budget ends it before."""
BY_NAME = {arm.name: arm for arm in (*ARMS, *CONTENDERS, CELLS[-1])}
"""Name -> arm, the first miniature's where both have one."""


@dataclass(frozen=True)
class Comparison:
    """Schedules at equal FLOP on one task."""

    stem: str
    """Name of its files."""
    arms: tuple[Arm, ...]
    budget: float
    """Exact training FLOP of a run, about those of the linear schedule in 55 updates."""


COMPARISONS = {
    "chain": Comparison("contenders", CONTENDERS, 8e11),
    "cells": Comparison("contenders_cells", CELLS, 1.5e12),
}
"""By task of `prefix_opd.miniature`."""


@dataclass(frozen=True)
class Run:
    """One arm with one seed. The seed determines the data order, the rollouts and the validation answers."""

    arm: Arm
    seed: int
    updates: int
    problems: int
    out: Path
    """The folder of all runs."""
    contends: bool = False
    """Whether the run belongs to the comparison of schedules."""
    budget: float | None = None
    """Exact training FLOP; None: as many updates as ``updates``."""
    lr: float | None = None
    """Learning rate; None: the experiment's."""

    @property
    def name(self) -> str:
        rate = f"_lr_{self.lr:g}" if self.lr else ""
        return f"{self.arm.name}{rate}_seed_{self.seed}"

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def validate_every(self) -> int:
        return max(1, self.updates // VALIDATIONS)
