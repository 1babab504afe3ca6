"""What a run asks a remote teacher before it starts, and what it refuses."""

import pytest
from api_server import Scorer, serving

from prefix_opd.base.errors import UserError
from prefix_opd.checks.remote_teacher import check_remote_teacher, sample_and_score
from prefix_opd.config.compose import compose
from prefix_opd.config.models import Model
from prefix_opd.config.settings import Settings
from prefix_opd.miniature import shipped_models

TEACHER = Model("teacher", str(shipped_models()["teacher"]))


def ask(url, *overrides):
    config = compose(["experiment=tiny/schedule", f"prefix_opd.teacher.url={url}", *overrides])
    check_remote_teacher(config, Settings.from_node(config.prefix_opd), TEACHER)


@pytest.fixture
def scorer():
    return Scorer(TEACHER.tokenizer)


NAMED = "prefix_opd.teacher.served_name=tt"
TOP = "distillation.distillation_loss.loss_mode=forward_kl_topk"


def test_a_right_server_is_accepted(scorer):
    with serving(scorer) as url:
        ask(url, NAMED)
        ask(url, NAMED, TOP, "distillation.distillation_loss.topk=3")
    assert [body["prompt_logprobs"] for body in scorer.asked] == [0, 3]
    assert max(scorer.asked[0]["prompt"]) == len(TEACHER.tokenizer) - 1  # a smaller vocabulary would refuse it


def test_every_url_is_asked(scorer):
    with serving(scorer) as url, pytest.raises(UserError, match=r"http://127.0.0.1:9/v1: does not answer"):
        ask(f"[{url},http://127.0.0.1:9/v1]", NAMED)


def test_a_key_is_sent_and_its_lack_is_named(scorer, monkeypatch):
    scorer.key = "right"
    with serving(scorer) as url:
        with pytest.raises(UserError, match="needs another key; export MY_KEY=KEY"):
            ask(url, NAMED, "prefix_opd.teacher.key_variable=MY_KEY")
        monkeypatch.setenv("MY_KEY", "right")
        ask(url, NAMED, "prefix_opd.teacher.key_variable=MY_KEY")


WRONG = {
    "another model": ({}, ["prefix_opd.teacher.served_name=other"], "serves tt, not other"),
    "short context": ({"room": 100}, [NAMED], "its context of 100 tokens has no room for prompt .* = "),
    "refuses": ({"failures": [400]}, [NAMED], "answers 400 to completions: .*not now"),
    "no log-probs": ({"completions": lambda body: {"choices": [{"text": "6"}]}}, [NAMED], "returns no prompt_logprobs"),
    "other tokens": ({"entry": lambda *_: {"1": {"logprob": -1}}}, [NAMED], "answers in another form"),
    "not the top k": ({"entry": lambda s, t, k: {str(t): {"logprob": -1, "rank": 1}}}, [NAMED, TOP], "not its top"),
    "no patch": ({}, [NAMED, "prefix_opd.patches_off=[startup]"], "needs this patch"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_server_is_refused(scorer, wrong):
    fields, overrides, message = WRONG[wrong]
    for name, value in fields.items():
        setattr(scorer, name, value)
    with serving(scorer) as url, pytest.raises(UserError, match=message):
        ask(url, *overrides)


def test_the_doctor_reports_an_error_of_the_server_itself(scorer):
    scorer.failures = [500]
    with (
        serving(scorer) as url,
        pytest.raises(UserError, match=r"v1: answers 500 to completions: .*; see the server's"),
    ):
        config = compose(["experiment=tiny/schedule", f"prefix_opd.teacher.url={url}", NAMED])
        sample_and_score(
            config, Settings.from_node(config.prefix_opd), {"prompts": [[1, 2]], "seeds": [0], "sampling": {}}, [[3]]
        )


def test_another_vocabulary_is_refused(scorer):
    class Shifted:
        def decode(self, ids):
            return TEACHER.tokenizer.decode([(ids[0] + 1) % len(TEACHER.tokenizer)])

    scorer.tokenizer = Shifted()
    with serving(scorer) as url, pytest.raises(UserError, match="has another vocabulary: token .* is .* there and"):
        ask(url, NAMED)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a/v1", "http://", "http://a:b/v1"])
def test_a_url_of_no_api_is_refused(url):
    with pytest.raises(UserError, match="is not the URL of an API"):
        ask(f"'{url}'")


@pytest.mark.parametrize("host", ["a..b", "xn--a", "a" * 64, "\u00e9\u200b", "a b"])
def test_a_host_that_cannot_be_is_refused(host):
    """A label of a host's name has 1 to 63 characters."""
    with pytest.raises(UserError, match=r"/v1: does not answer \("):
        ask(f"'http://{host}/v1'")


def test_a_key_that_no_header_holds_is_not_shown(scorer, monkeypatch):
    named, scorer.key = "prefix_opd.teacher.key_variable=MY_KEY", "right"
    with serving(scorer) as url:
        monkeypatch.setenv("MY_KEY", "right\n")  # as read from a file
        ask(url, NAMED, named)
        for key in ("secr\u00e9t", "sec\nret"):
            monkeypatch.setenv("MY_KEY", key)
            with pytest.raises(UserError, match="^MY_KEY: is no key: a header holds printable ASCII alone"):
                ask(url, NAMED, named)
