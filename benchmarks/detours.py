"""Ours with a saving of the agent loop's calls undone, for measuring what it is worth.

Named by ``actor_rollout_ref.rollout.agent.agent_loop_manager_class``, as no setting undoes them.
"""

from __future__ import annotations

import ray
from verl.trainer.ppo.v1 import agent_loop_tq

from prefix_opd.verl_plugin.worker.agent_loop import PrefixAgentLoopManager, PrefixAgentLoopWorker

_to_table = agent_loop_tq.list_of_dict_to_tensordict


class AskingWorker(PrefixAgentLoopWorker):
    """Asks verl's load balancer for a server before each request."""

    def _spare_calls(self) -> None:
        super()._spare_calls()
        for client in (self.llm_client, *(self.teacher_client or {}).values()):
            del client._acquire_server, client._release_server  # what stands before verl's own methods


class WritingWorker(PrefixAgentLoopWorker):
    """Writes every rollout to TransferQueue by a call of its own."""

    def _spare_calls(self) -> None:
        super()._spare_calls()
        agent_loop_tq.tq = agent_loop_tq.tq._queue
        agent_loop_tq.list_of_dict_to_tensordict = _to_table


class AskingManager(PrefixAgentLoopManager):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(AskingWorker)


class WritingManager(PrefixAgentLoopManager):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(WritingWorker)
