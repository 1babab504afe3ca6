"""The client of a remote teacher: values, retries, failures."""

import asyncio
import pickle

import numpy as np
import pytest
from api_server import Scorer, serving

from prefix_opd.config.models import Model
from prefix_opd.config.remote_teacher import RemoteTeacher, scores
from prefix_opd.miniature import shipped_models
from prefix_opd.verl_plugin.server import remote_teacher
from prefix_opd.verl_plugin.server.remote_teacher import RemoteTeacherClient


@pytest.fixture
def scorer(monkeypatch):
    monkeypatch.setattr(remote_teacher, "PAUSE_SECONDS", 0.01)
    return Scorer(Model("teacher", str(shipped_models()["teacher"])).tokenizer)


def client_of(*urls, seconds=5.0):
    made = RemoteTeacherClient(RemoteTeacher(urls, "tt", "NO_SUCH_VARIABLE", seconds))
    return pickle.loads(pickle.dumps(made))  # verl sends it to its workers


def generate(client, tokens, topk=0):
    answer = asyncio.run(client.generate("r", prompt_ids=tokens, sampling_params={"prompt_logprobs": topk}))
    return answer.extra_fields["prompt_ids"], answer.extra_fields["prompt_logprobs"]


def test_row_i_scores_token_i_plus_1(scorer):
    with serving(scorer) as url:
        ids, log_probs = generate(client_of(url), [3, 5, 4])
    assert ids.ravel().tolist() == [5, 4, 0]  # the last row is padding
    np.testing.assert_allclose(log_probs.ravel(), [-0.08, -0.09, 0.0], atol=1e-7)


def test_the_top_k_are_sorted_by_rank(scorer):
    with serving(scorer) as url:
        ids, log_probs = generate(client_of(url), [3, 5, 4], topk=2)
    assert ids.tolist() == [[0, 1], [0, 1], [0, 0]]
    np.testing.assert_allclose(log_probs, [[-0.03, -0.04], [-0.05, -0.06], [0, 0]], atol=1e-7)


def test_a_sampled_token_among_the_top_k_counts_once():
    entry = {"4": {"logprob": -0.1, "rank": 1}, "7": {"logprob": -2.0, "rank": 2}}
    ids, log_probs = scores({"choices": [{"prompt_logprobs": [None, entry]}]}, [3, 4], 2)
    assert ids[0].tolist() == [4, 7] and log_probs[0].tolist() == pytest.approx([-0.1, -2.0])


def test_urls_take_turns_and_a_failed_one_is_passed_over(scorer):
    with serving(scorer) as url:
        client = client_of("http://127.0.0.1:9/v1", url)
        assert generate(client, [3, 5])[0][0] == 5
        scorer.failures = [503]
        assert generate(client_of(url), [3, 5])[0][0] == 5
    assert len(scorer.asked) == 3


def test_progress_is_told_of_each_answer(scorer):
    came = []
    with serving(scorer) as url:
        client = client_of(url)
        client.answered = lambda: came.append(1)
        generate(client, [3, 5])
    assert came == [1]


def test_a_dead_server_fails_the_score_after_its_tries():
    with pytest.raises(RuntimeError, match="the remote teacher at 127.0.0.1:9: ConnectError"):
        generate(client_of("http://127.0.0.1:9/v1"), [3, 5])


def test_a_refusal_is_not_repeated(scorer):
    scorer.failures = [400, 400]
    with serving(scorer) as url, pytest.raises(RuntimeError, match="answered 400: .*not now"):
        generate(client_of(url), [3, 5])
    assert len(scorer.asked) == 1


def test_scores_of_another_sequence_fail(scorer):
    scorer.completions = lambda body: Scorer.completions(scorer, {**body, "prompt": [3, 6]})
    with serving(scorer) as url, pytest.raises(RuntimeError, match="did not score token 5 at position 1"):
        generate(client_of(url), [3, 5])


def test_a_slow_server_fails_at_the_time_limit(scorer):
    import threading

    stop = threading.Event()
    scorer.completions = lambda body: stop.wait(20) and {}
    with serving(scorer) as url:
        with pytest.raises(RuntimeError, match="did not answer within 0.3 s"):
            generate(client_of(url, seconds=0.3), [3, 5])
        stop.set()
