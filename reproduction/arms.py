"""The arms that are compared, and a run of an arm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROMPTS, ROLLOUTS = 16, 4
SEQUENCES = PROMPTS * ROLLOUTS
"""Sequences of an update, the same for every arm."""
UPDATES = 55
PROBLEMS = 512
"""All held-out problems."""
SEEDS = (0, 1, 2)
VALIDATIONS = 5
"""Validations after the one before training, evenly over the updates."""

PREFIX = 24
"""Tokens of the prefix arms that are compared by objective; the paper's 2048 of 16 384, scaled to 192."""


@dataclass(frozen=True)
class Arm:
    """One row of the table. Example: ``Arm("prefix_3", "prefix 3", "tiny/prefix_3", paper="prefix 256")``."""

    name: str
    label: str
    experiment: str | None = None
    """The experiment of an on-policy arm; none for SeqKD."""
    answer_tokens: int | None = None
    """SeqKD: the number of answer tokens to learn from; none for all."""
    paper: str | None = None
    """The corresponding row of the paper (`prefix_opd.method.paper`)."""
    probed: bool = True
    """On-policy: whether the probe runs; it needs the teacher's log-prob of each sampled token."""


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
BY_NAME = {arm.name: arm for arm in ARMS}


@dataclass(frozen=True)
class Run:
    """One arm with one seed. The seed draws the data's order, the rollouts and the validation's answers."""

    arm: Arm
    seed: int
    updates: int
    problems: int
    out: Path
    """The reproduction's folder of runs."""

    @property
    def name(self) -> str:
        return f"{self.arm.name}_seed_{self.seed}"

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def validate_every(self) -> int:
        return max(1, self.updates // VALIDATIONS)
