"""verl's own trainer with our placement of the teacher, and a clock. A run imports it in its trainer's process.

verl gives the teacher GPUs of its own (verl/trainer/ppo/v1/trainer_base.py:_init_resource_pool_mgr).
"""

from __future__ import annotations

from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

import benchmarks.clock  # noqa: F401  the clock of every run
from prefix_opd.verl_plugin.trainer.startup import share_pool

_verls_own = PPOTrainerSync._init_resource_pool_mgr


def _init_resource_pool_mgr(self):
    _verls_own(self)
    if self.config.prefix_opd.teacher.placement == "shared":
        share_pool(self.resource_pool_manager)


PPOTrainerSync._init_resource_pool_mgr = _init_resource_pool_mgr
