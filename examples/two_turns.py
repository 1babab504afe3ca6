"""An agent loop of two turns for the miniature: a tool checks the answer, and a wrong one gets a second try.

PYTHONPATH=examples prefix-opd train experiment=tiny/schedule prefix_opd.rollout.tool_tokens=32 \
  actor_rollout_ref.rollout.agent.default_agent_loop=two_turns.TwoTurns
"""

from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput

TURNS = 2


class TwoTurns(AgentLoopBase):
    """``run`` makes one rollout. verl passes the row of the data as keyword arguments."""

    async def run(self, sampling_params, **row):
        messages = list(row["raw_prompt"])
        ids = await self.ct_build_initial_tokens(messages)
        prompt, mask, request = len(ids), [], uuid4().hex
        for turn in range(TURNS):
            # at most what is left of L; no tokens if nothing is left
            answer = await self.server_manager.generate(
                request_id=request, prompt_ids=ids, sampling_params=sampling_params
            )
            ids, mask = [*ids, *answer.token_ids], [*mask, *[1] * len(answer.token_ids)]
            text = self.tokenizer.decode(answer.token_ids, skip_special_tokens=True)
            if not text or turn + 1 == TURNS or is_right(text, row["reward_model"]["ground_truth"]):
                break
            before = [*messages, {"role": "assistant", "content": text}]
            messages = [*before, {"role": "user", "content": row["raw_prompt"][-1]["content"]}]  # try again
            merged, mask, _ = await self.ct_merge_context_msg(before, messages, ids, mask)  # response_mask=0
            ids = merged.token_ids
        return AgentLoopOutput(
            prompt_ids=ids[:prompt], response_ids=ids[prompt:], response_mask=mask, num_turns=turn + 1, metrics={}
        )


def is_right(text: str, truth: str) -> bool:
    """The tool: what stands after ``</think>`` is the answer."""
    return text.rpartition("</think>")[2].strip() == truth
