"""L over the turns of a rollout, by hand: only the engine is replaced, by one that says what it is told."""

import asyncio
import sys
import types
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap, ToolListWrap
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.tools.function_tool import FUNCTION_TOOL_REGISTRY, function_tool
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import TokenOutput

from prefix_opd.config.compose import compose
from prefix_opd.method.ending import CUT, NATURAL, TOOLS
from prefix_opd.miniature.tokenizer import build_tokenizer
from prefix_opd.verl_plugin.worker.progress import Progress
from prefix_opd.verl_plugin.worker.student_turns import EMPTY_TURNS, ROLLOUT, Rollout, StudentClient

END = 9
PROMPT = [1, 2]
TOOL = [50, 51]


class Engine(StudentClient):
    """Each turn says its words, cut at ``max_tokens``. Token i of all turns has the log-prob -i / 10."""

    def __init__(self, *words):
        self.words, self.asked, self.said = list(words), [], 0
        super().__init__(LLMServerClient(OmegaConf.create({"actor_rollout_ref": {"rollout": {"name": "vllm"}}})), None)

    async def _acquire_server(self, request_id, **extra):
        async def generate(prompt_ids, sampling_params, **others):
            self.asked.append(sampling_params)
            words = self.words.pop(0)[: sampling_params["max_tokens"]]
            log_probs = [-(self.said + i) / 10 for i in range(1, len(words) + 1)]
            self.said += len(words)
            return TokenOutput(token_ids=words, log_probs=log_probs)

        return "address", types.SimpleNamespace(generate=types.SimpleNamespace(remote=generate))

    def _release_server(self, *args, **kwargs): ...


async def two_turns(client, tool=TOOL, turns=2, **params):
    """A loop as users write it: a tool's output between two turns; it ends at an empty turn."""
    ids, mask = list(PROMPT), []
    for turn in range(turns):
        answer = await client.generate(request_id="r", prompt_ids=ids, sampling_params=params)
        ids, mask = ids + answer.token_ids, mask + [1] * len(answer.token_ids)
        if not answer.token_ids or turn + 1 == turns:
            break
        ids, mask = ids + tool, mask + [0] * len(tool)
    return AgentLoopOutput(prompt_ids=PROMPT, response_ids=ids[2:], response_mask=mask, metrics={})


def rolled(longest, *words, room=2, **others):
    """(settled output, ending, sampling parameters of each turn)."""

    async def run():
        client = Engine(*words)
        ROLLOUT.set(Rollout(longest, room))
        output = await two_turns(client, **others)
        ROLLOUT.get().settle(output)
        return output, ROLLOUT.get().ending([END]), client.asked

    return asyncio.run(run())


def test_l_in_the_second_turn():
    output, ending, asked = rolled(5, [11, 12, END], [13, 14, 15, END])
    assert [params["max_tokens"] for params in asked] == [5, 2]
    assert output.response_ids == [11, 12, END, 50, 51, 13, 14] and output.response_mask == [1, 1, 1, 0, 0, 1, 1]
    assert output.response_logprobs == [-0.1, -0.2, -0.3, 0.0, 0.0, -0.4, -0.5]
    assert ending == CUT


def test_l_in_the_first_turn():
    """The second turn gets no tokens, and the tool's output before it teaches nothing."""
    output, ending, asked = rolled(2, [11, 12, END], [13])
    assert [params["max_tokens"] for params in asked] == [2]
    assert output.response_ids == [11, 12] and output.response_mask == [1, 1] and ending == CUT


def test_l_at_the_end_of_the_first_turn():
    """The turn ended by itself, but the rollout was to go on."""
    output, ending, _ = rolled(3, [11, 12, END], [13])
    assert output.response_ids == [11, 12, END] and ending == CUT


def test_both_turns_within_l():
    output, ending, asked = rolled(9, [11, END], [12, END])
    assert [params["max_tokens"] for params in asked] == [9, 7]
    assert output.response_mask == [1, 1, 0, 0, 1, 1] and ending == NATURAL


def test_a_tools_output_that_exceeds_its_room_ends_the_rollout():
    output, ending, asked = rolled(9, [11, END], [12, END], room=1)
    assert len(asked) == 1 and output.response_ids == [11, END] and ending == TOOLS
    assert rolled(2, [11, END], [12], room=1)[1] == CUT, "no turn would have followed it"
    # over all turns: 2 + 2 fit into 4, 2 + 2 + 2 do not
    output, ending, asked = rolled(9, [11], [12], [13], [14], room=4, turns=4)
    assert len(asked) == 3 and output.response_mask == [1, 0, 0, 1, 0, 0, 1] and ending == TOOLS


def test_a_loop_may_ask_for_less_and_its_parameters_stay():
    params = {"max_tokens": 3}
    _, _, asked = rolled(5, [11, 12, 13, 14], [15, 16, 17], **params)
    assert [one["max_tokens"] for one in asked] == [3, 2] and params == {"max_tokens": 3}


def test_each_turn_has_a_seed_of_its_own():
    _, _, asked = rolled(9, [11], [12], [13], room=4, turns=3, seed=7)
    seeds = [params["seed"] for params in asked]
    assert seeds[0] == 7 and len(set(seeds)) == 3 and all(0 <= seed < 2**63 for seed in seeds)
    assert [params["seed"] for params in rolled(9, [11], [12], [13], room=4, turns=3, seed=7)[2]] == seeds


def test_a_loop_without_end_is_told():
    with pytest.raises(RuntimeError, match=f"went on for {EMPTY_TURNS} turns without tokens"):

        async def run():
            client = Engine([11])
            ROLLOUT.set(Rollout(1, 0))
            while True:
                await client.generate(request_id="r", prompt_ids=PROMPT, sampling_params={})

        asyncio.run(run())


def settled(response, mask, turns=(([1, 2], [11, 12]), ([1, 2, 11, 12, 50, 51], [13]))):
    rollout = Rollout(9, 9)
    rollout.turns = [(context, TokenOutput(token_ids=ids, log_probs=[-1.0] * len(ids))) for context, ids in turns]
    output = AgentLoopOutput(prompt_ids=PROMPT, response_ids=response, response_mask=mask, metrics={})
    rollout.settle(output)
    return output


def test_what_the_student_did_not_sample_is_never_trained_on():
    whole = [11, 12, 50, 51, 13]
    assert settled(whole, [1, 1, 0, 0, 1]).response_logprobs == [-1.0, -1.0, 0.0, 0.0, -1.0]
    # a loop may leave sampled tokens out of the loss
    left_out = settled(whole, [0, 1, 0, 0, 1])
    assert left_out.response_mask == [0, 1, 0, 0, 1] and left_out.response_logprobs == [0.0, -1.0, 0.0, 0.0, -1.0]
    with pytest.raises(RuntimeError, match="token 3 of the response .from 0. with response_mask=1"):
        settled(whole, [1, 1, 0, 1, 1])
    with pytest.raises(RuntimeError, match="token 1 of the response"):
        settled([11, 99], [1, 1], turns=[([1, 2], [11, 12])])  # tokenized anew
    with pytest.raises(RuntimeError, match="changed the context of turn 1"):
        settled([50, 51, 13], [0, 0, 1])  # the first turn was dropped
    # verl's loops cut what exceeds their room, also within a turn
    assert settled([11, 12, 50], [1, 1, 0]).response_ids == [11, 12]
    assert settled([11], [1]).response_logprobs == [-1.0]


# ---- the example, on verl's own base class ----


@pytest.fixture
def loop(monkeypatch):
    """The example's agent loop with an engine that says these texts."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    monkeypatch.delitem(sys.modules, "two_turns", raising=False)
    import two_turns

    config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"prompt_length": 64, "response_length": 64}}})
    data = OmegaConf.create({"apply_chat_template_kwargs": {}})

    def make(*texts):
        tokenizer = build_tokenizer()
        client = Engine(*(tokenizer.encode(text) for text in texts))
        made = two_turns.TwoTurns(
            DictConfigWrap(config), client, tokenizer, None, RLHFDataset, DictConfigWrap(data), hf_model_type="qwen3"
        )
        return made, tokenizer

    return make


ROW = {"raw_prompt": [{"role": "user", "content": "1+2"}], "reward_model": {"ground_truth": "03"}}
AGAIN = "\n<|im_start|>user\n1+2<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("texts", "longest", "response", "trained"),
    [
        (["</think>03<|im_end|>"], 16, "</think>03<|im_end|>", "</think>03<|im_end|>"),
        (
            ["</think>04<|im_end|>", "</think>03<|im_end|>"],
            16,
            f"</think>04<|im_end|>{AGAIN}</think>03<|im_end|>",
            "</think>04<|im_end|></think>03<|im_end|>",
        ),
        (
            ["</think>04<|im_end|>", "</think>03<|im_end|>"],
            6,
            f"</think>04<|im_end|>{AGAIN}</think>0",
            "</think>04<|im_end|></think>0",
        ),
    ],
)
def test_the_example(loop, texts, longest, response, trained):
    async def run():
        made, tokenizer = loop(*texts)
        ROLLOUT.set(Rollout(longest, 32))
        output = await made.run({"max_tokens": longest}, priority=0, **ROW)
        ROLLOUT.get().settle(output)
        return output, tokenizer

    output, tokenizer = asyncio.run(run())
    assert tokenizer.decode(output.prompt_ids) == "<|im_start|>user\n1+2<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(output.response_ids) == response
    sampled = [token for token, mask in zip(output.response_ids, output.response_mask, strict=True) if mask]
    assert tokenizer.decode(sampled) == trained and len(sampled) <= longest
    assert [log_prob for log_prob in output.response_logprobs if log_prob] == pytest.approx(
        [-i / 10 for i in range(1, len(sampled) + 1)]
    )


CALL = '<tool_call>\n{"name": "tell", "arguments": {"place": 2}}\n</tool_call><|im_end|>'
TOLD = "\n<|im_start|>tool\n5<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(("more", "response", "ending"), [(9, f"{CALL}{TOLD}</think>5", "other"), (0, CALL, CUT)])
def test_verls_loop_with_tools(more, response, ending):
    """A subclass of verl's ToolAgentLoop with a tool. Where L ends with the call, the tool's output is dropped."""

    @function_tool("tell")
    def tell(place: int) -> str:
        """Tell a digit.

        Args:
            place: which digit.
        """
        return "357"[place - 1]

    class Telling(ToolAgentLoop):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{**kwargs, "tools": ToolListWrap([FUNCTION_TOOL_REGISTRY.pop("tell")])})

    config, tokenizer = compose(["experiment=tiny/schedule", "data.max_response_length=160"]), build_tokenizer()
    client = Engine(tokenizer.encode(CALL), tokenizer.encode("</think>5"))
    call = len(client.words[0])

    async def run():
        wrapped, data = DictConfigWrap(config), DictConfigWrap(config.data)
        loop = Telling(wrapped, client, tokenizer, None, RLHFDataset, data, hf_model_type="qwen3", tools=None)
        ROLLOUT.set(Rollout(call + more, 32))
        output = await loop.run({}, **ROW)
        ROLLOUT.get().settle(output)
        return output, ROLLOUT.get().ending([])

    output, found = asyncio.run(run())
    assert tokenizer.decode(output.response_ids) == response and found == ending
    assert sum(output.response_mask) == call + (2 if more else 0)


def test_rollouts_side_by_side_have_a_budget_each():
    """As in a worker: one client, a task for each rollout, which `Progress.watch` runs in a task within."""

    class Parrot(Engine):
        async def _acquire_server(self, request_id, **extra):
            async def generate(prompt_ids, sampling_params, **others):
                await asyncio.sleep(0)
                ids = [11] * sampling_params["max_tokens"]
                return TokenOutput(token_ids=ids, log_probs=[-1.0] * len(ids))

            return "address", types.SimpleNamespace(generate=types.SimpleNamespace(remote=generate))

    async def rollout(client, progress, longest):
        ROLLOUT.set(Rollout(longest, 9))
        output = await progress.watch(two_turns(client))
        return sum(output.response_mask)

    async def run():
        client, progress = Parrot(), Progress(60)
        client._progress = progress
        return await asyncio.gather(*(rollout(client, progress, longest) for longest in (1, 4, 2)))

    assert asyncio.run(run()) == [1, 4, 2]
