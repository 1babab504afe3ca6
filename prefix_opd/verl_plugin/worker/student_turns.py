"""L over all turns of a rollout.

An agent loop (verl's ``AgentLoopBase``) asks the student's engine once per turn. A turn may sample what is left of L.
After the last token of L, or after more tool outputs than ``prefix_opd.rollout.tool_tokens``, a turn gets no tokens: a
loop ends there as after any turn without a tool call. `Rollout` keeps what was sampled and compares it with what the
loop returns, so that every token in the loss has the log-prob of the context it was sampled in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextvars import ContextVar
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.workers.rollout.replica import TokenOutput

from prefix_opd.method.ending import CUT, TOOLS, how_it_ended
from prefix_opd.method.seeds import seed_of
from prefix_opd.verl_plugin.worker.progress import WatchedClient

EMPTY_TURNS = 100
"""Turns without tokens after which a loop counts as endless."""


class Rollout:
    """What a rollout has sampled, and what it may still sample.

    Args:
        longest: L in training, the maximum response length in validation: the student's tokens over all turns.
        tool_room: ``prefix_opd.rollout.tool_tokens``.
    """

    def __init__(self, longest: int, tool_room: int):
        self.longest, self.tool_room = longest, tool_room
        self.turns: list[tuple[list[int], TokenOutput]] = []
        """(context, answer) of each turn with tokens."""
        self._over: str | None = None
        self._empty = 0

    @property
    def sampled(self) -> list[int]:
        """The student's tokens over all turns."""
        return [token for _, answer in self.turns for token in answer.token_ids]

    def left(self, context: list[int]) -> int:
        """Tokens that a turn may sample after this context. 0 ends the rollout; RuntimeError for an endless loop."""
        sampled = len(self.sampled)
        tools = len(context) - len(self.turns[0][0]) - sampled if self.turns else 0
        self._over = CUT if sampled >= self.longest else TOOLS if tools > self.tool_room else None
        if self._over is None:
            return self.longest - sampled
        self._empty += 1
        if self._empty > EMPTY_TURNS:
            raise RuntimeError(f"the agent loop went on for {EMPTY_TURNS} turns without tokens: end it at the first")
        return 0

    def ending(self, end_token_ids: Collection[int]) -> str:
        """How the rollout ended (`prefix_opd.method.ending`)."""
        return self._over or how_it_ended(self.sampled, self.longest, end_token_ids)

    def settle(self, output: AgentLoopOutput) -> None:
        """Prove a loop's output, cut tool outputs after the last student token, and fill in what was recorded: the
        sampler's log-probs, and the steps of its first and last weights.

        Raises:
            RuntimeError: a context was changed after a turn was sampled in it, or a token in the loss was not sampled
                where it stands. A score would then belong to other tokens than the student saw.
        """
        prompt, sequence = len(output.prompt_ids), [*output.prompt_ids, *output.response_ids]
        log_probs, proven = [0.0] * len(sequence), [False] * len(sequence)
        for number, (context, answer) in enumerate(self.turns):
            if sequence[: len(context)] != context[: len(sequence)]:
                raise RuntimeError(f"the agent loop changed the context of turn {number} (from 0) after it was sampled")
            place = slice(len(context), len(context) + len(answer.token_ids))
            here = sequence[place]
            proven[place] = [mine == its for mine, its in zip(here, answer.token_ids, strict=False)]
            log_probs[place] = (answer.log_probs or [0.0] * len(here))[: len(here)]
        in_loss = [i for i, mask in enumerate(output.response_mask) if mask]
        if wrong := [i for i in in_loss if not proven[prompt + i]]:
            raise RuntimeError(
                f"the agent loop returned token {wrong[0]} of the response (from 0) with response_mask=1, but the "
                "student did not sample it there"
            )
        end = max(in_loss, default=-1) + 1
        chosen = zip(log_probs[prompt : prompt + end], output.response_mask, strict=False)
        output.response_ids, output.response_mask = output.response_ids[:end], output.response_mask[:end]
        output.response_logprobs = [log_prob if mask else 0.0 for log_prob, mask in chosen]
        for name, turn in (("min_global_steps", 0), ("max_global_steps", -1)) if self.turns else ():
            output.extra_fields.setdefault(name, self.turns[turn][1].extra_fields.get(name))


ROLLOUT: ContextVar[Rollout] = ContextVar("prefix_opd_rollout")
"""The rollout of the running task. Each rollout has a task of its own."""


class StudentClient(WatchedClient):
    """The client of the student's servers that agent loops see."""

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **others: Any):
        """verl's ``generate`` with at most `Rollout.left` tokens, and a seed of its own for each turn."""
        rollout = ROLLOUT.get()
        left = rollout.left(prompt_ids)
        if not left:
            await asyncio.sleep(0)
            return TokenOutput(token_ids=[], log_probs=[], stop_reason="completed")
        asked = {**sampling_params, "max_tokens": min(left, sampling_params.get("max_tokens", left))}
        if rollout.turns and asked.get("seed") is not None:
            asked["seed"] = seed_of(f"{asked['seed']}/turn {len(rollout.turns)}", 63)
        answer = await super().generate(request_id, prompt_ids=prompt_ids, sampling_params=asked, **others)
        rollout.turns.append((list(prompt_ids), answer))
        return answer
