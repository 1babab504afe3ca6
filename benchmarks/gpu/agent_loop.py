"""verl's single-turn agent loop with a cap that changes by step, so that one run measures several caps.

verl's own has one cap per run, ``data.max_response_length``. Nothing else differs: verl neither pads a response nor
reads this length elsewhere in a step (verl/trainer/ppo/v1/agent_loop_tq.py:_agent_loop_postprocess).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop


class CappedAgentLoop(SingleTurnAgentLoop):
    """``caps``: response tokens of each step, from the first."""

    def __init__(self, *args, caps: Sequence[int], **kwargs):
        super().__init__(*args, **kwargs)
        self.caps = list(caps)

    async def run(self, sampling_params: dict[str, Any], **kwargs):
        cap = self.caps[int(kwargs["global_steps"]) - 1]
        return await super().run({**sampling_params, "max_tokens": cap}, **kwargs)
