"""The rows of `prefix_opd.verl_plugin.patches` that act in agent-loop workers."""

from __future__ import annotations

from prefix_opd.base.patching import Patch, Target

_WORKER = "prefix_opd.verl_plugin.worker"

WORKER_PATCHES = (
    Patch(
        name="agent_loops",
        processes="agent-loop workers",
        targets=(Target("verl.experimental.agent_loop.agent_loop:hydra", f"{_WORKER}.new_loops:quick_hydra"),),
        why="hydra.utils.instantiate creates an agent loop per rollout, 2 ms each in the workers' event loop "
        "(agent_loop.py:683).",
        until="verl looks its class up once",
        without="2 ms more per rollout",
    ),
    Patch(
        name="direct_route",
        processes="agent-loop workers",
        targets=(
            Target(
                "verl.workers.rollout.llm_server:LLMServerClient._acquire_server",
                f"{_WORKER}.direct_route:asked_once",
                ("_load_balancer",),
            ),
            Target(
                "verl.workers.rollout.llm_server:LLMServerClient._release_server",
                f"{_WORKER}.direct_route:told_if_several",
            ),
        ),
        why="Each request calls a load-balancer actor before and after (llm_server.py:70, 83), also with one server.",
        until="verl's client remembers its only server",
        without="two more actor calls per request",
    ),
    Patch(
        name="group_commit",
        processes="agent-loop workers",
        targets=(
            Target("verl.trainer.ppo.v1.agent_loop_tq:tq", f"{_WORKER}.group_commit:grouped"),
            Target(
                "verl.trainer.ppo.v1.agent_loop_tq:list_of_dict_to_tensordict",
                f"{_WORKER}.group_commit:rows_as_they_are",
            ),
        ),
        why="verl writes each rollout and each status to TransferQueue in a separate call (agent_loop_tq.py:110, 143, "
        "222).",
        until="verl writes in groups",
        without="a call of TransferQueue per rollout and per status",
    ),
)
