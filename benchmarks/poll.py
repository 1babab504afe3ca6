"""verl's own trainer, polling for finished rollouts as often as ours does.

verl has no setting for it: its replay buffer is built without ``poll_interval``, so the default of 2 s holds. A run
imports this module in its trainer's process in place of `benchmarks.clock`.
"""

from __future__ import annotations

from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

import benchmarks.clock  # noqa: F401  the clock of every run
from prefix_opd.config.settings import Settings

POLL_SECONDS: float = Settings.model_fields["poll_seconds"].default

_verls_own = PPOTrainerSync._build_replay_buffer


def _build_replay_buffer(self):
    buffer = _verls_own(self)
    buffer.poll_interval = POLL_SECONDS
    return buffer


PPOTrainerSync._build_replay_buffer = _build_replay_buffer
