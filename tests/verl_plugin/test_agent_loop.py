"""The rollout hook on verl's own worker class: only the engine beneath it is replaced by a recorder."""

import asyncio
import types

import numpy as np
import pytest
from ray.exceptions import RayTaskError
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.utils import tensordict_utils as tu
from verl.workers.rollout.replica import TokenOutput

from prefix_opd.config.settings import Settings
from prefix_opd.verl_plugin.worker import agent_loop
from prefix_opd.verl_plugin.worker.agent_loop import (
    PrefixAgentLoopWorker,
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
