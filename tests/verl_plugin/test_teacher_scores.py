"""The teacher's scores, read from flat lists: the same as verl reads from dicts of vLLM's, to the last bit."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from verl.experimental.teacher_loop import teacher_manager
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.vllm_rollout import utils, vllm_async_server
from vllm import SamplingParams
from vllm.logprobs import FlatLogprobs
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.outputs import LogprobsTensors

from prefix_opd.verl_plugin.server.teacher_scores import flat_to_arrays
from prefix_opd.verl_plugin.worker.agent_loop import check_scored_tokens


def answer(sequence: list[int], log_probs: torch.Tensor, topk: int, asked: dict, chunks: int = 1):
    """The answer of vLLM's server for given log-probs of its engine.

    Args:
        sequence: S tokens.
        log_probs: (S - 1, V); row i scores token i + 1.
        asked: other parameters of the request.
        chunks: number of parts of the answer.
    """
    chosen = torch.tensor(sequence[1:])[:, None]
    own = log_probs.gather(-1, chosen)
    ranks = (log_probs >= own).sum(-1)  # as vllm/v1/sample/ops/logprobs.py counts
    top, ids = log_probs.topk(topk)
    parts = torch.cat([chosen, ids], -1).int(), torch.cat([own, top], -1), ranks
    parameters = SamplingParams(max_tokens=1, prompt_logprobs=topk, detokenize=False, **asked)
    processor = LogprobsProcessor.from_new_request(None, SimpleNamespace(sampling_params=parameters))
    for part in zip(*(table.tensor_split(chunks) for table in parts), strict=True):
        processor._update_prompt_logprobs(LogprobsTensors(*part))
    return SimpleNamespace(prompt_logprobs=processor.prompt_logprobs)


def asked_of_vllm(topk: int, name: str = "vllm") -> dict:
    """The request of verl's agent loop to a teacher, without the numbers that `answer` takes by name."""
    model = SimpleNamespace(inference=SimpleNamespace(temperature=1.0, name=name))
    loss = SimpleNamespace(topk=topk, loss_settings=SimpleNamespace(use_topk=topk > 0))
    asked = teacher_manager._get_teacher_sampling_params(model, loss)
    assert asked["prompt_logprobs"] == topk
    return {key: value for key, value in asked.items() if key not in ("prompt_logprobs", "max_tokens", "detokenize")}


def received(extract, output, topk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The agent loop's tensors from the server's reply (teacher_manager.py)."""
    reply = TokenOutput(token_ids=[0])
    extract(output=output, num_prompt_logprobs=topk, result_dict=reply.extra_fields)
    fields = pickle.loads(pickle.dumps(reply)).extra_fields
    return torch.tensor(fields["prompt_ids"], dtype=torch.int32), torch.tensor(fields["prompt_logprobs"])


THREE = [2, 1, 0]
"""A sequence whose second token is the most likely of three, and whose third token is the least likely."""

BY_HAND = torch.tensor([[1 / 4, 1 / 2, 1 / 4 - 1e-3], [1 / 8, 1 / 4, 5 / 8]]).log()


def test_three_tokens_by_hand():
    ids, log_probs = flat_to_arrays(answer(THREE, BY_HAND, 0, {"flat_logprobs": True}).prompt_logprobs, 0)
    assert ids.tolist() == [[1], [0], [0]]  # what is scored: the second token, the third, padding
    assert log_probs.tolist() == [[pytest.approx(math.log(1 / 2))], [pytest.approx(math.log(1 / 8))], [0.0]]


def test_three_tokens_and_the_two_likeliest_by_hand():
    ids, log_probs = flat_to_arrays(answer(THREE, BY_HAND, 2, {"flat_logprobs": True}).prompt_logprobs, 2)
    assert ids.tolist() == [[1, 0], [2, 1], [0, 0]]  # the third token is not among the likeliest of its place
    expected = [[math.log(1 / 2), math.log(1 / 4)], [math.log(5 / 8), math.log(1 / 4)], [0, 0]]
    assert log_probs.tolist() == [pytest.approx(row) for row in expected]


@pytest.mark.parametrize("tokens", [1, 2, 130])
@pytest.mark.parametrize("topk", [0, 1, 8])
@pytest.mark.parametrize("chunks", [1, 3])
def test_the_same_as_verl_reads_from_dicts(tokens, topk, chunks):
    torch.manual_seed(tokens)
    log_probs = (5 * torch.randn(tokens - 1, 264)).log_softmax(-1)
    log_probs[: tokens // 3] = log_probs[: tokens // 3].round()  # equal ones among the likeliest and beside them
    sequence = torch.randint(0, 264, (tokens,)).tolist()
    dicts = answer(sequence, log_probs, topk, {}, chunks)
    flat = answer(sequence, log_probs, topk, asked_of_vllm(topk), chunks)
    assert isinstance(dicts.prompt_logprobs, list) and isinstance(flat.prompt_logprobs, FlatLogprobs)

    wanted = received(utils.extract_prompt_logprobs, dicts, topk)
    found = received(vllm_async_server.extract_prompt_logprobs, flat, topk)
    for mine, verls in zip(found, wanted, strict=True):
        assert mine.dtype == verls.dtype and torch.equal(mine, verls)
    if topk == 0:
        check_scored_tokens(found[0].reshape(-1)[:-1], sequence)


def test_what_is_not_flat_is_read_as_verl_reads_it():
    wanted = received(utils.extract_prompt_logprobs, answer(THREE, BY_HAND, 2, {}), 2)
    found = received(vllm_async_server.extract_prompt_logprobs, answer(THREE, BY_HAND, 2, {}), 2)
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    nothing = {}
    vllm_async_server.extract_prompt_logprobs(
        output=SimpleNamespace(prompt_logprobs=None), num_prompt_logprobs=None, result_dict=nothing
    )
    assert nothing == {}, "a rollout asks for no log-probs of its prompt"


def test_verls_own_reading_takes_flat_lists_too():
    """A server without our reader (another version of this package on another node) gives the same answer."""
    flat = answer(THREE, BY_HAND, 2, {"flat_logprobs": True})
    wanted = received(utils.extract_prompt_logprobs, answer(THREE, BY_HAND, 2, {}), 2)
    found = received(utils.extract_prompt_logprobs, flat, 2)
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))


def test_only_vllm_is_asked_for_flat_lists():
    assert asked_of_vllm(0)["flat_logprobs"] is True
    assert "flat_logprobs" not in asked_of_vllm(0, name="sglang")


@pytest.mark.parametrize(
    "change",
    [
        lambda flat: flat.append(None),  # a position without log-probs
        lambda flat: flat.token_ids.pop(),
        lambda flat: flat.ranks.reverse(),  # another order within a position
        lambda flat: flat.start_indices.__setitem__(2, flat.start_indices[2] - 1),  # one more here, one less there
    ],
)
def test_another_shape_of_vllms_is_told(change):
    flat = answer(THREE, BY_HAND, 2, {"flat_logprobs": True}).prompt_logprobs
    change(flat)
    with pytest.raises(RuntimeError, match="another shape than . rows of a token and its 2 likeliest"):
        flat_to_arrays(flat, 2)


def test_an_answer_for_another_k_is_told():
    flat = answer(THREE, BY_HAND, 2, {"flat_logprobs": True}).prompt_logprobs
    with pytest.raises(RuntimeError, match="another shape"):
        flat_to_arrays(flat, 0)
