"""The rollout hook on verl's own worker class: only the engine beneath it is replaced by a recorder."""

import asyncio
import types

import pytest
import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput

from prefix_opd.settings import Settings
from prefix_opd.verl_plugin import agent_loop
from prefix_opd.verl_plugin.agent_loop import PrefixAgentLoopWorker, _check_scored_tokens, _truncate


def worker(**settings):
    """A worker without its start-up; the methods under test are the real ones."""
    made = object.__new__(PrefixAgentLoopWorker)
    made.settings = Settings.from_node(
        {"schedule": {"name": "linear", "start": 1, "increment": 4}, "stop_token_ids": [8, 9], **settings}
    )
    made.response_length = 16
    made.rollout_config = types.SimpleNamespace(name="vllm")
    made.dispatched_at = 0.0
    made.distillation_enabled = True
    made.keep_teacher_ids = False
    return made


def asked(monkeypatch, made, step, validate=False, shared=None):
    """What verl's worker is handed for one rollout."""
    seen = {}

    async def record(self, sampling_params, trajectory, **kwargs):
        seen.update(sampling_params)

    monkeypatch.setattr(agent_loop._AgentLoopWorker, "_run_agent_loop", record)
    shared = {"temperature": 1.0} if shared is None else shared
    trajectory = {"step": step, "validate": validate}
    asyncio.run(made._run_agent_loop(shared, trajectory, agent_name="any"))
    return seen


@pytest.mark.parametrize(("step", "cap"), [(1, 1), (2, 5), (4, 13), (5, 16), (9, 16)])
def test_training_is_capped_at_the_steps_length(monkeypatch, step, cap):
    assert asked(monkeypatch, worker(), step)["max_tokens"] == cap


def test_validation_is_never_capped_and_keeps_its_text(monkeypatch):
    params = asked(monkeypatch, worker(), step=1, validate=True)
    assert "max_tokens" not in params and "detokenize" not in params and "output_kind" not in params
    assert params["stop_token_ids"] == [8, 9]


def test_the_shared_parameters_stay_as_they_were(monkeypatch):
    shared = {"temperature": 1.0}
    asked(monkeypatch, worker(), step=3, shared=shared)
    assert shared == {"temperature": 1.0}


def test_only_the_finished_rollout_is_asked_for(monkeypatch):
    params = asked(monkeypatch, worker(), step=1)
    assert params["detokenize"] is False and params["output_kind"] is agent_loop.FINAL_ONLY
    plain = asked(monkeypatch, worker(rollout={"final_output_only": False}), step=1)
    assert "output_kind" not in plain


def test_a_students_own_end_token_can_be_ignored(monkeypatch):
    assert "ignore_eos" not in asked(monkeypatch, worker(), step=1)
    assert asked(monkeypatch, worker(ignore_own_end_token=True), step=1)["ignore_eos"] is True


def output(tokens):
    return AgentLoopOutput(
        prompt_ids=[1, 2],
        response_ids=tokens,
        response_mask=[1] * len(tokens),
        response_logprobs=[-0.1 * i for i in range(len(tokens))],
        metrics={},
    )


def test_what_several_turns_have_beyond_the_cap_is_cut():
    long = output([3, 4, 5, 6, 7])
    _truncate(long, 3)
    assert long.response_ids == [3, 4, 5] and long.response_mask == [1, 1, 1]
    assert long.response_logprobs == pytest.approx([0.0, -0.1, -0.2])


@pytest.mark.parametrize(
    ("tokens", "validate", "cap", "ending"),
    [([3, 4, 5, 6, 7, 3], False, 5, "cut"), ([3, 8], False, 5, "natural"), ([3] * 9 + [9], True, 16, "natural")],
)
def test_each_sample_carries_its_cap_and_its_ending(monkeypatch, tokens, validate, cap, ending):
    async def nothing(self, output, validate, **kwargs):
        return None

    monkeypatch.setattr(agent_loop._AgentLoopWorker, "_agent_loop_postprocess", nothing)
    sample = output(tokens)
    asyncio.run(worker()._agent_loop_postprocess(sample, validate, global_steps=2))
    record = sample.extra_fields["prefix_opd"]
    assert (record["cap"], record["ending"]) == (cap, ending)
    # a training prefix gets a named zero and no scorer; a validation answer is left to verl's
    assert sample.reward_score == (None if validate else 0.0)


def test_a_misaligned_teacher_is_refused():
    _check_scored_tokens(torch.tensor([2, 3, 4]), [1, 2, 3, 4])
    with pytest.raises(RuntimeError, match="scored token 3 at position 1, where the sequence has 2"):
        _check_scored_tokens(torch.tensor([3, 4, 5]), [1, 2, 3, 4])
    with pytest.raises(RuntimeError, match="scored 2 tokens of 3"):
        _check_scored_tokens(torch.tensor([2, 3]), [1, 2, 3, 4])


def test_an_enum_member_of_vllm_travels_by_name():
    import cloudpickle
    from vllm.sampling_params import RequestOutputKind

    assert cloudpickle.loads(cloudpickle.dumps(agent_loop.FINAL_ONLY)) is RequestOutputKind.FINAL_ONLY
