"""``compute_score`` as verl calls it."""

import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.data import KNOWN
from prefix_opd.grading import compute_score
from prefix_opd.grading.reward import kind_of


def test_mathematics():
    score = compute_score("math500", r"hm</think>\boxed{\dfrac{1}{2}}", r"\frac{1}{2}", {"n_options": 0})
    assert score == {"score": 1.0, "pred": r"\frac{1}{2}", "graded_by": "math"}


def test_votes_are_counted_under_one_spelling():
    spellings = [r"\dfrac12", r"\frac{1}{2}", "1/2", r"$\frac{1}{2}$."]
    preds = {compute_score("math500", f"</think>\\boxed{{{text}}}", "3")["pred"] for text in spellings}
    assert preds == {r"\frac{1}{2}"}


def test_no_answer_is_an_empty_vote():
    assert compute_score("aime2024", "still thinking, 204", "204") == {"score": 0.0, "pred": "", "graded_by": "math"}


def test_multiple_choice_knows_its_options():
    response = "</think>The answer is (E)"
    assert compute_score("gpqa-main", response, "E", {"n_options": 5})["score"] == 1.0
    assert compute_score("gpqa-main", response, "C", {"n_options": 4})["pred"] == ""
    assert compute_score("mmlu-pro", "</think>J", "J") == {"score": 1.0, "pred": "J", "graded_by": "choice"}


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
    assert compute_score("openthoughts3", "</think>42", "") == {"score": 0.0, "pred": "", "graded_by": "none"}


def test_the_miniature_has_a_grader_of_its_own():
    task = pytest.importorskip("prefix_opd.miniature.task", reason="the miniature is not installed")
    assert task.grade("a</think>42", "42") is True
    assert compute_score("tiny/sums", "a</think>42", "42") == {"score": 1.0, "pred": "42", "graded_by": "tiny"}
    assert compute_score("tiny/sums", "a</think>41", "42")["score"] == 0.0
    assert compute_score("tiny/sums", "42", "42") == {"score": 0.0, "pred": "", "graded_by": "tiny"}


def test_settings_travel_as_reward_kwargs_and_a_typo_is_told():
    assert compute_score("math500", r"\boxed{42}", "42", require_think_end=False)["score"] == 1.0
    assert compute_score("math500", r"</think>\boxed{42}", "42", reward_router_address=None)["score"] == 1.0
    with pytest.raises(
        UserError, match=r"reward_kwargs.require_thinkend: is not known; choose from .*require_think_end"
    ):
        compute_score("math500", "42", "42", require_thinkend=False)
