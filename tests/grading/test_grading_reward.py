"""``compute_score`` as verl calls it."""

import re

import pytest
from verl.trainer.ppo.reward import get_custom_reward_fn

from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose
from prefix_opd.data import KNOWN
from prefix_opd.grading import common_refusal, compute_score
from prefix_opd.grading.reward import kind_of


def test_mathematics():
    score = compute_score("math500", r"hm</think>\boxed{\dfrac{1}{2}}", r"\frac{1}{2}", {"n_options": 0})
    assert score == {"score": 1.0, "pred": r"\frac{1}{2}", "graded_by": "math", "reason": "equal"}


def test_votes_are_counted_under_one_spelling():
    spellings = [r"\dfrac12", r"\frac{1}{2}", "1/2", r"$\frac{1}{2}$."]
    preds = {compute_score("math500", f"</think>\\boxed{{{text}}}", "3")["pred"] for text in spellings}
    assert preds == {r"\frac{1}{2}"}


def test_no_answer_is_an_empty_vote():
    assert compute_score("aime2024", "still thinking, 204", "204") == {
        "score": 0.0,
        "pred": "",
        "graded_by": "math",
        "reason": "the thinking did not end",
    }


def test_multiple_choice_knows_its_options():
    response = "</think>The answer is (E)"
    assert compute_score("gpqa-main", response, "E", {"n_options": 5})["score"] == 1.0
    assert compute_score("gpqa-main", response, "C", {"n_options": 4})["pred"] == ""
    score = compute_score("mmlu-pro", "</think>J", "J")
    assert score == {"score": 1.0, "pred": "J", "graded_by": "choice", "reason": "equal"}


def test_each_known_set_goes_to_its_grader():
    assert {name: kind_of(name) for name in KNOWN} == {
        "openthoughts3": "math",
        "math500": "math",
        "aime2024": "math",
        "aime2025": "math",
        "gpqa-main": "choice",
        "gpqa-diamond": "choice",
        "mmlu-pro": "choice",
    }
    assert kind_of("TIGER-Lab/MMLU-Pro") == "choice"
    assert kind_of("anything", n_options=4) == "choice"


def test_a_question_without_a_truth_scores_nothing():
    score = compute_score("openthoughts3", "</think>42", "")
    assert score == {"score": 0.0, "pred": "", "graded_by": "none", "reason": "there is no true answer"}


def test_the_miniature_has_a_grader_of_its_own():
    graded = {"graded_by": "tiny"}
    right, wrong, unfinished = (compute_score("tiny/sums", text, "42") for text in ("a</think>42", "a</think>41", "42"))
    assert right == {"score": 1.0, "pred": "42", "reason": "equal", **graded}
    assert wrong == {"score": 0.0, "pred": "41", "reason": "different", **graded}
    assert unfinished == {"score": 0.0, "pred": "", "reason": "the thinking did not end", **graded}


def test_the_last_of_several_turns_is_graded():
    turns = "a</think>{}\nuser\n7+3\nassistant\n<think>b</think>{}"
    for source, answers in (("tiny/sums", ("41", "42")), ("math500", (r"\boxed{41}", r"\boxed{42}"))):
        assert compute_score(source, turns.format(*answers), "42", require_think_end=True)["score"] == 1.0
        assert compute_score(source, turns.format(*answers[::-1]), "42", require_think_end=True)["score"] == 0.0


def test_settings_travel_as_reward_kwargs_and_a_typo_is_told():
    assert compute_score("math500", r"\boxed{42}", "42", require_think_end=False)["score"] == 1.0
    assert compute_score("math500", r"</think>\boxed{42}", "42", reward_router_address=None)["score"] == 1.0
    with pytest.raises(
        UserError, match=r"reward_kwargs.require_thinkend: is not known; choose from .*require_think_end"
    ):
        compute_score("math500", "42", "42", require_thinkend=False)


@pytest.mark.parametrize(
    ("ending", "response", "score", "reason"),
    [
        ("<think>", r"\boxed{42}", 0.0, "the thinking did not end"),
        ("<think>", r"hm</think>\boxed{42}", 1.0, "equal"),
        (None, r"\boxed{42}", 1.0, "equal"),
        (None, r"<think>41?</think>\boxed{42}", 1.0, "equal"),
        (None, r"<think>it is \boxed{42}", 0.0, "the thinking did not end"),  # a model that opens the thinking itself
        ("<think>\n\n</think>", r"\boxed{42}", 1.0, "equal"),  # thinking that the prompt closes, too
    ],
)
def test_the_prompts_ending_says_where_the_answer_begins(ending, response, score, reason):
    graded = compute_score("math500", response, "42", prompt_ending=ending)
    assert (graded["score"], graded["reason"]) == (score, reason)
    assert compute_score("math500", response, "42", prompt_ending=ending, require_think_end=False)["score"] == (
        0.0 if response.startswith("<think>it") else 1.0
    ), "what the user sets wins"


def test_the_recipe_hands_the_prompts_ending_to_the_grader():
    for overrides, ending in (([], "<think>"), (["prefix_opd.prompt.ending=null"], None)):
        config = compose(["experiment=tiny/full", *overrides])
        grader = get_custom_reward_fn(config)  # verl's own, as its reward workers make it
        assert config.reward.custom_reward_function.reward_kwargs.prompt_ending == ending
        assert grader("math500", r"\boxed{42}", "42")["score"] == (0.0 if ending else 1.0)


@pytest.mark.parametrize(
    ("reasons", "warning"),
    [
        (["equal", "different"], None),
        (["different"] * 3, None),
        ([], None),
        ([None, None], None),
        (["no answer was found", "the thinking did not end"], None),
        (["the thinking did not end", "equal"], None),
        (["no answer was found", None, "no answer was found"], "all 2 answers .*: no answer was found$"),
        (["the thinking did not end"] * 4, "all 4 .*: the thinking did not end; raise .*prompt.thinking=off"),
    ],
)
def test_a_batch_that_was_refused_for_one_reason_warns_of_it(reasons, warning):
    told = common_refusal(reasons)
    assert told is None if warning is None else re.match(warning, told)
