"""What the teacher scores for a worker: alignment, its own prompts, prompts of several messages."""

import asyncio

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tensordict import TensorDict
from test_agent_loop import worker
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput
from verl.workers.utils.padding import no_padding_2_padding

from prefix_opd.checks.case import Case
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.miniature.tokenizer import build_tokenizer
from prefix_opd.verl_plugin import fields
from prefix_opd.verl_plugin.worker.agent_loop import (
    check_scored_length,
    check_scored_tokens,
)


def test_a_misaligned_teacher_is_refused():
    check_scored_tokens(torch.tensor([2, 3, 4]), [1, 2, 3, 4])
    with pytest.raises(RuntimeError, match="scored token 3 at position 1, where the sequence has 2"):
        check_scored_tokens(torch.tensor([3, 4, 5]), [1, 2, 3, 4])
    with pytest.raises(RuntimeError, match="scored 2 tokens of 3"):
        check_scored_tokens(torch.tensor([2, 3]), [1, 2, 3, 4])


def test_a_short_top_k_answer_is_refused():
    check_scored_length(torch.zeros(3, 8), 3)
    with pytest.raises(RuntimeError, match="scored 2 tokens of 3"):
        check_scored_length(torch.zeros(2, 8), 3)


class PrefixTeacher:
    """Scores token i of a sequence by -(sum of all tokens before it) - its id / 100, shifted left as verl stores it."""

    async def compute_teacher_logprobs_single(self, sequence_ids, **kwargs):
        self.asked = sequence_ids
        scores = [-sum(sequence_ids[:i]) - sequence_ids[i] / 100 for i in range(1, len(sequence_ids))]
        k = self.topk
        ids = [[token + j for j in range(k)] for token in sequence_ids[1:]] + [[0] * k]
        return torch.tensor(ids, dtype=torch.int32), torch.tensor([[s - j for j in range(k)] for s in [*scores, 0.0]])


def scored(row, prompt_ids, response_ids, topk=1, **settings):
    """The fields of one rollout as the worker stores them, and the sequence that the teacher was asked for."""
    made, teacher = worker(**settings), PrefixTeacher()
    made.tokenizer, made.teacher_server_manager, made.teacher_key = build_tokenizer(), teacher, "key"
    made.config = compose(["experiment=tiny/schedule"])
    teacher.topk = topk
    rollout = AgentLoopOutput(
        prompt_ids=prompt_ids, response_ids=response_ids, response_mask=[1] * len(response_ids), metrics={}
    )
    rollout.extra_fields[fields.RECORD] = {"ending": "cut"}
    asyncio.run(
        made._compute_teacher_logprobs(
            rollout, prompt_ids=prompt_ids, response_ids=response_ids, validate=False, sample_kwargs=row
        )
    )
    return rollout.extra_fields, teacher.asked


def test_a_teachers_own_prompts_are_longer_and_shorter_than_the_students():
    """Two rollouts of one batch, by verl's own worker: each log q is that of its token after the teacher's prompt."""
    tokenizer = build_tokenizer()
    rows = [
        {"raw_prompt": [{"role": "user", "content": "1"}], "teacher_prompt": "1, and the solution is 2"},
        {"raw_prompt": [{"role": "user", "content": "a question that is long"}], "teacher_prompt": "x"},
    ]
    responses, found, log_q = [[5, 9, 7], [8, 6]], [], []
    for row, response in zip(rows, responses, strict=True):
        student, own = (
            tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
            for messages in (row["raw_prompt"], [{"role": "user", "content": row["teacher_prompt"]}])
        )
        extra, asked = scored(row, student, response, teacher_prompt={"column": "teacher_prompt"})
        assert asked == [*own, *response] and extra[fields.RECORD]["teacher_prompt_length"] == len(own) != len(student)
        assert "teacher_ids" not in extra, "the ids that prove the alignment are not sent on"
        found.append((student, response, extra))
        log_q += [-sum(own) - sum(response[:i]) - response[i] / 100 for i in range(len(response))]

    def jagged(values):
        return torch.nested.as_nested_tensor(values, layout=torch.jagged)

    batch = TensorDict(
        dict(
            prompts=jagged([torch.tensor(prompt) for prompt, _, _ in found]),
            responses=jagged([torch.tensor(response) for _, response, _ in found]),
            response_mask=jagged([torch.ones(len(response)) for _, response, _ in found]),
            rollout_log_probs=jagged([torch.zeros(len(response)) for _, response, _ in found]),
            teacher_logprobs=jagged([extra["teacher_logprobs"] for _, _, extra in found]),
            prefix_length=[3, 3],
            extra_fields=[{fields.RECORD: extra[fields.RECORD]} for _, _, extra in found],
        ),
        batch_size=2,
    )
    rollouts = fields.read_train_batch(batch, recomputed=False)
    torch.testing.assert_close(rollouts.log_q, torch.tensor(log_q))
    assert rollouts.teacher_prompt_lengths == [extra[fields.RECORD]["teacher_prompt_length"] for _, _, extra in found]
    # padded rows, as an objective sees them
    torch.testing.assert_close(rollouts.padded(rollouts.log_q), torch.tensor([log_q[:3], [*log_q[3:], 0.0]]))
    # verl's own losses cut the whole sequence by the student's lengths (verl/workers/utils/padding.py)
    cut = no_padding_2_padding(batch["teacher_logprobs"], whole_sequences(batch)).squeeze(-1)
    torch.testing.assert_close(cut, torch.tensor([log_q[:3], [*log_q[3:], 0.0]]))


def whole_sequences(batch):
    rows = [torch.cat(pair) for pair in zip(batch["prompts"].unbind(), batch["responses"].unbind(), strict=True)]
    return TensorDict({**batch, "input_ids": torch.nested.as_nested_tensor(rows, layout=torch.jagged)}, batch_size=2)


def test_a_top_k_after_the_teachers_own_prompt_is_moved_with_its_ids(monkeypatch):
    row = {"raw_prompt": [{"role": "user", "content": "1"}], "solution": "2"}
    extra, asked = scored(
        row,
        [1, 2],
        [5, 9],
        topk=2,
        teacher_prompt={"template": "{prompt} {solution}"},
        loss={"name": "forward_kl_topk"},
    )
    own = asked[:-2]
    assert tokenizer_text(own) == "<|im_start|>user\n1 2<|im_end|>\n<|im_start|>assistant\n"
    assert extra["teacher_ids"].tolist() == [[0, 0], [5, 6], [9, 10], [0, 0]]
    first, second = -sum(own) - 0.05, -sum(own) - 5 - 0.09
    expected = torch.tensor([[0, 0], [first, first - 1], [second, second - 1], [0, -1]])
    torch.testing.assert_close(extra["teacher_logprobs"][:-1], expected[:-1])


def tokenizer_text(ids):
    return build_tokenizer().decode(ids)


CONVERSATION = [
    {"role": "system", "content": "add"},
    {"role": "user", "content": "1+2"},
    {"role": "assistant", "content": "<think>3</think>3"},
    {"role": "user", "content": "7+3"},
]


def test_a_prompt_of_several_messages_is_one_prompt_for_all(tmp_path, monkeypatch):
    """verl's loop, the doctor and the teacher see the whole conversation, with the forced ending at its end alone."""
    row = {"data_source": "tiny/chain", "prompt": CONVERSATION, "reward_model": {"ground_truth": "10"}}
    pq.write_table(pa.Table.from_pylist([row] * 16), tmp_path / "rows.parquet")
    files = [f"data.{kind}_files={tmp_path}/rows.parquet" for kind in ("train", "val")]
    config = compose(["experiment=tiny/schedule", "data.max_prompt_length=64", *files])
    check(config)
    whole = (
        "<|im_start|>system\nadd<|im_end|>\n<|im_start|>user\n1+2<|im_end|>\n<|im_start|>assistant\n<think>3</think>3"
        "<|im_end|>\n<|im_start|>user\n7+3<|im_end|>\n<|im_start|>assistant\n<think>"
    )
    tokenizer = build_tokenizer()
    tokenizer.chat_template = config.actor_rollout_ref.model.custom_chat_template
    sampled = []

    class Client:
        async def generate(self, prompt_ids, **others):
            sampled.extend(prompt_ids)
            return TokenOutput(token_ids=[5, 9], log_probs=[-0.1, -0.2])

    async def rollout():
        wrapped, data = DictConfigWrap(config), DictConfigWrap(config.data)
        loop = SingleTurnAgentLoop(wrapped, Client(), tokenizer, None, RLHFDataset, data, hf_model_type="qwen3")
        return await loop.run({}, raw_prompt=CONVERSATION)

    made = asyncio.run(rollout())
    assert tokenizer.decode(sampled) == whole and made.prompt_ids == sampled
    assert Case.open(config).prompts == [sampled] * 16, "what doctor shows and verl's filter measures"
    _, asked = scored({"raw_prompt": CONVERSATION}, made.prompt_ids, made.response_ids)
    assert asked == [*sampled, 5, 9]
    # a teacher's own prompt replaces the last question alone
    _, asked = scored({"raw_prompt": CONVERSATION}, made.prompt_ids, [5], teacher_prompt={"template": "{prompt}!"})
    assert tokenizer.decode(asked[:-1]) == whole.replace("7+3", "7+3!").removesuffix("<think>")


def test_without_a_prompt_of_its_own_the_teacher_sees_the_students(monkeypatch):
    extra, asked = scored({"raw_prompt": []}, [1, 2], [5])
    assert asked == [1, 2, 5] and "teacher_prompt_length" not in extra[fields.RECORD]
    assert extra["teacher_logprobs"][1, 0].item() == pytest.approx(-3.05)
