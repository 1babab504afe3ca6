"""The arms of the comparison, and a run of an arm."""

from __future__ import annotations

from dataclasses import dataclass
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
    """One arm with one seed. The seed determines the data order, the rollouts and the validation answers."""

    arm: Arm
    seed: int
    updates: int
    problems: int
    out: Path
    """The folder of all runs."""

    @property
    def name(self) -> str:
        return f"{self.arm.name}_seed_{self.seed}"

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def validate_every(self) -> int:
        return max(1, self.updates // VALIDATIONS)
