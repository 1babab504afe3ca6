"""The rollout hook on verl's own worker class: only the engine beneath it is replaced by a recorder."""

import asyncio
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ray.exceptions import RayTaskError
from tensordict import TensorDict
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput
from verl.workers.utils.padding import no_padding_2_padding

from prefix_opd.checks.case import Case
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.settings import Settings
from prefix_opd.miniature.tokenizer import build_tokenizer
from prefix_opd.verl_plugin import fields
from prefix_opd.verl_plugin.worker import agent_loop
from prefix_opd.verl_plugin.worker.agent_loop import (
    PrefixAgentLoopWorker,
    check_scored_length,
    check_scored_tokens,
)
from prefix_opd.verl_plugin.worker.gate import Gate
from prefix_opd.verl_plugin.worker.progress import Progress
from prefix_opd.verl_plugin.worker.student_turns import ROLLOUT, Rollout


def worker(**settings):
    """A worker without its start-up; the methods under test are the real ones."""
    made = object.__new__(PrefixAgentLoopWorker)
    made.settings = Settings.from_node({"stop_token_ids": [8, 9], **settings})
    made.longest_response = 16
    made.rollout_config = types.SimpleNamespace(name="vllm", n=2)
    made.dispatched_at = 0.0
    made.failures = []
    made.gate = Gate() if made.settings.teacher.phases == "turns" else None
    made.distillation_enabled = True
    made.progress = Progress(made.settings.rollout.timeout_seconds)
    return made


def asked(monkeypatch, made, step, validate=False, shared=None, session=0, **sample):
    """The input of verl's worker for one rollout."""
    seen = {}

    async def record(self, sampling_params, trajectory, **kwargs):
        seen.update(sampling_params)

    monkeypatch.setattr(agent_loop._AgentLoopWorker, "_run_agent_loop", record)
    shared = {"temperature": 1.0} if shared is None else shared
    trajectory = {"step": step, "validate": validate, "sample_index": 3}
    sample = {"session_id": session, "raw_prompt": [{"role": "user", "content": "7+3"}], **sample}
    sample = sample if validate else {"prefix_length": 5, **sample}  # as the trainer stamps it: validation has none
    asyncio.run(made._run_agent_loop(shared, trajectory, agent_name="any", **sample))
    return seen


def test_a_training_rollout_stops_at_its_rows_length(monkeypatch):
    assert asked(monkeypatch, worker(), step=2)["max_tokens"] == 5


def test_a_rollout_has_its_own_of_its_prompts_lengths(monkeypatch):
    assert asked(monkeypatch, worker(), step=2, session=1, prefix_length=[9, 4, 7])["max_tokens"] == 4


def test_a_probes_rollout_has_the_seed_of_its_row(monkeypatch):
    assert asked(monkeypatch, worker(), step=2, prefix_opd_probe=3)["seed"] == 3


def test_validation_is_never_capped(monkeypatch):
    params = asked(monkeypatch, worker(), step=1, validate=True)
    assert "max_tokens" not in params
    assert params["stop_token_ids"] == [8, 9]


def test_the_shared_parameters_stay_as_they_were(monkeypatch):
    shared = {"temperature": 1.0}
    asked(monkeypatch, worker(), step=3, shared=shared)
    assert shared == {"temperature": 1.0}


@pytest.mark.parametrize("validate", [False, True])
def test_only_the_finished_rollout_is_asked_for_and_no_text(monkeypatch, validate):
    params = asked(monkeypatch, worker(), step=1, validate=validate)
    assert params["detokenize"] is False and params["output_kind"] is agent_loop.FINAL_ONLY
    stops_at_text = asked(monkeypatch, worker(), step=1, validate=validate, shared={"stop": ["\n\n"]})
    assert stops_at_text["detokenize"] is True, "vLLM looks for a stop string in the text"
    plain = asked(monkeypatch, worker(rollout={"final_output_only": False}), step=1)
    assert "output_kind" not in plain


def test_a_students_own_end_token_can_be_ignored(monkeypatch):
    assert "ignore_eos" not in asked(monkeypatch, worker(), step=1)
    assert asked(monkeypatch, worker(ignore_own_end_token=True), step=1)["ignore_eos"] is True


def test_a_seeded_rollout_has_a_seed_of_its_own(monkeypatch):
    seeded = worker(rollout={"seeded": 0})
    first = asked(monkeypatch, seeded, step=2)["seed"]
    assert asked(monkeypatch, worker(rollout={"seeded": 0}), step=2)["seed"] == first, "what came before does not count"
    others = [
        asked(monkeypatch, seeded, step=2, session=1),
        asked(monkeypatch, seeded, step=2, validate=True),
        asked(monkeypatch, seeded, step=2, prefix_opd_attempt=1),
        asked(monkeypatch, worker(rollout={"seeded": 1}), step=2),
    ]
    assert len({first, *(params["seed"] for params in others)}) == 5
    assert asked(monkeypatch, seeded, step=2, shared={"seed": 5})["seed"] == 5, "an evaluation has its own"
    assert "seed" not in asked(monkeypatch, worker(), step=2)


def failing(monkeypatch, made, outcome, validate=False):
    async def rollout(self, sampling_params, trajectory, **kwargs):
        return await outcome()

    monkeypatch.setattr(agent_loop._AgentLoopWorker, "_run_agent_loop", rollout)
    trajectory = {"step": 1, "validate": validate, "sample_index": 3}
    asyncio.run(made._run_agent_loop({}, trajectory, agent_name="any", session_id=1, raw_prompt=[], prefix_length=5))


@pytest.mark.parametrize("validate", [False, True])
def test_an_engine_that_stalls_is_not_waited_for_without_end(monkeypatch, validate):
    made = worker(rollout={"timeout_seconds": 0.05})
    with pytest.raises(TimeoutError):
        failing(monkeypatch, made, lambda: asyncio.sleep(60), validate)
    (told,) = asyncio.run(made.take_failures())
    assert told == "row 3, rollout 1: no progress in 0.05 s: no rollout, no score, no token"
    assert asyncio.run(made.take_failures()) == []


def test_what_failed_is_told_in_one_line(monkeypatch):
    async def dead():
        raise RuntimeError("the teacher scored 4 tokens of 9\nwith a traceback\nof many lines")

    made = worker()
    with pytest.raises(RuntimeError):
        failing(monkeypatch, made, dead)
    assert made.failures == ["row 3, rollout 1: RuntimeError: the teacher scored 4 tokens of 9"]


def test_of_a_workers_error_the_cause_is_told():
    inner = OSError(28, "No space left on device")
    error = RayTaskError(
        "save_checkpoint", "Traceback ...\nOSError", inner, proctitle="ray::WorkerDict", pid=1, ip="::1"
    )
    assert str(error).splitlines()[0].startswith(("Traceback", "\x1b", "ray::"))
    for raised in (error, error.as_instanceof_cause()):
        assert agent_loop.one_line(raised) == "OSError: [Errno 28] No space left on device"
    outer = RayTaskError("run", "Traceback ...", error, proctitle="ray::TaskRunner", pid=1, ip="::1")
    assert "No space left on device" in agent_loop.one_line(outer)
    assert agent_loop.one_line(ValueError("first\nsecond")) == "ValueError: first"


def output(tokens):
    return AgentLoopOutput(
        prompt_ids=[1, 2],
        response_ids=tokens,
        response_mask=[1] * len(tokens),
        response_logprobs=[-0.1 * i for i in range(len(tokens))],
        metrics={},
    )


@pytest.mark.parametrize(
    ("tokens", "row", "ending"),
    [
        ([3, 4, 5, 6, 7], {"prefix_length": 5}, "cut"),
        ([3, 8], {"prefix_length": 5}, "natural"),
        ([3, 8, 4], {"prefix_length": 5}, "other"),
        ([3] * 9 + [9], {}, "natural"),
        ([3] * 16, {}, "cut"),
    ],
)
def test_each_rollout_carries_its_ending(monkeypatch, tokens, row, ending):
    async def nothing(self, output, validate, **kwargs):
        return None

    monkeypatch.setattr(agent_loop._AgentLoopWorker, "_agent_loop_postprocess", nothing)
    sample, validate = output(tokens), not row

    async def postprocess():
        ROLLOUT.set(Rollout(row.get("prefix_length", 16), 0))
        log_probs = sample.response_logprobs
        ROLLOUT.get().turns.append(([1, 2], TokenOutput(token_ids=tokens, log_probs=log_probs)))
        await worker()._agent_loop_postprocess(sample, validate, **row)
        assert sample.response_logprobs == log_probs

    asyncio.run(postprocess())
    assert sample.response_ids == tokens
    assert sample.extra_fields["prefix_opd"] == {**sample.extra_fields["prefix_opd"], "ending": ending, "turns": 1}
    # a training prefix gets a named zero and no scorer; a validation answer is left to verl's
    assert sample.reward_score == (None if validate else 0.0)


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


def test_an_enum_member_of_vllm_travels_by_name():
    import cloudpickle
    from vllm.sampling_params import RequestOutputKind

    assert cloudpickle.loads(cloudpickle.dumps(agent_loop.FINAL_ONLY)) is RequestOutputKind.FINAL_ONLY


TURNS = {"teacher": {"placement": "shared", "phases": "turns"}}


def handed_out(made, monkeypatch, validate=False, **columns):
    """Hand a worker two prompts. verl's part, which starts their rollouts, is left out."""

    async def nothing(self, batch):
        return None

    monkeypatch.setattr(agent_loop._AgentLoopWorker, "generate_sequences", nothing)
    columns = {"uid": ["a", "b"], **columns}
    batch = tu.get_tensordict({name: np.array(values, dtype=object) for name, values in columns.items()})
    if validate:
        tu.assign_non_tensor_data(batch, "validate", True)
    return made.generate_sequences(batch)


@pytest.mark.parametrize(("columns", "rollouts"), [({}, 4), ({"__rollout_n__": [1, 2]}, 3)])
def test_the_teacher_waits_for_every_rollout_that_is_handed_out(monkeypatch, columns, rollouts):
    async def step():
        made, scored = worker(**TURNS), []

        async def score(self, output, prompt_ids, response_ids, validate, **kwargs):
            scored.append((kwargs["sample_kwargs"]["uid"], kwargs["sample_kwargs"]["session_id"]))
            raise OSError("no teacher here")

        monkeypatch.setattr(agent_loop._AgentLoopWorker, "_compute_teacher_logprobs", score)
        await handed_out(made, monkeypatch, **columns)
        counts = columns.get("__rollout_n__", [2, 2])
        places = [(uid, number) for uid, count in zip("ab", counts, strict=True) for number in range(count)]
        sampled = asyncio.create_task(made.sampled())
        waiting = []
        for uid, number in places:
            await asyncio.sleep(0)
            assert not sampled.done()
            sample = {"uid": uid, "session_id": number}
            waiting.append(
                asyncio.create_task(made._compute_teacher_logprobs(None, [], [], False, sample_kwargs=sample))
            )
            await asyncio.sleep(0)
        await asyncio.wait_for(sampled, 5)
        assert scored == [] and len(places) == rollouts
        await made.score()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(scored) == places

    asyncio.run(step())


def test_a_failed_rollout_and_a_validation_keep_no_teacher_waiting(monkeypatch):
    async def step():
        made = worker(**TURNS)
        await handed_out(made, monkeypatch, validate=True)
        await asyncio.wait_for(made.sampled(), 5)
        await handed_out(made, monkeypatch, uid=["a"], __rollout_n__=[1])

        async def fails(self, sampling_params, trajectory, **kwargs):
            raise OSError("the engine is gone")

        monkeypatch.setattr(agent_loop._AgentLoopWorker, "_run_agent_loop", fails)
        trajectory = {"step": 1, "validate": False, "sample_index": 3}
        sample = {"uid": "a", "session_id": 0, "raw_prompt": [], "prefix_length": 5}
        with pytest.raises(OSError, match="gone"):
            await made._run_agent_loop({}, trajectory, agent_name="any", **sample)
        await asyncio.wait_for(made.sampled(), 5)

    asyncio.run(step())
