"""Numbers worked by hand."""

import itertools

import pytest

from prefix_opd.grading.statistics import Interval, bootstrap_interval, maj_at_k, mean_at_k, pass_at_k


def test_mean():
    assert mean_at_k([True, False, False, True]) == 0.5


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (4, 1, 1, 0.25),  # 1 - C(3,1)/C(4,1) = 1 - 3/4
        (4, 2, 2, 1 - 1 / 6),  # 1 - C(2,2)/C(4,2)
        (5, 2, 3, 0.9),  # 1 - C(3,3)/C(5,3) = 1 - 1/10
        (16, 3, 8, 0.9),  # 1 - C(13,8)/C(16,8) = 1 - 1287/12870
        (4, 0, 4, 0.0),
        (4, 3, 2, 1.0),  # two of four always hold one of the three
        (4, 4, 1, 1.0),
    ],
)
def test_pass_by_hand(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


def test_pass_is_the_share_of_draws_that_hold_a_right_one():
    samples = [True, False, False, True, False, False]
    draws = list(itertools.combinations(samples, 3))
    assert pass_at_k(6, 2, 3) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_pass_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match="pass_at_k: need"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["7", "7", "5"], [True, True, False], 1.0),
        (["7", "5", "5"], [True, False, False], 0.0),
        (["7", "5"], [True, False], 0.5),  # a tie of a right and a wrong answer
        (["7", "5", "3"], [True, False, False], 1 / 3),
        (["", "", "7"], [False, False, True], 1.0),  # no answer is no vote
        (["", ""], [False, False], 0.0),
        (["7", "7", "5"], [True, False, False], 0.5),  # graded apart: counts for its share
    ],
)
def test_majority(answers, correct, expected):
    assert maj_at_k(answers, correct) == pytest.approx(expected)


def test_interval_of_two_problems():
    # Means of two draws from {0, 1}: 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    # So 95% of them reach from 0 to 1.
    assert bootstrap_interval([0.0, 1.0]) == Interval(0.5, 0.0, 1.0)


def test_interval_is_near_the_normal_one_for_many_problems():
    # 400 problems, half right: standard error sqrt(0.25/400) = 0.025, so 0.5 -+ 1.96 * 0.025 = 0.451 to 0.549.
    interval = bootstrap_interval([0.0, 1.0] * 200)
    assert interval.mean == 0.5
    assert (interval.low, interval.high) == pytest.approx((0.451, 0.549), abs=0.004)


def test_interval_repeats():
    values = [0.1, 0.4, 0.35, 0.8, 0.55]
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_interval_of_one_value_and_refusals():
    assert bootstrap_interval([0.25] * 5) == Interval(0.25, 0.25, 0.25)
    for values in ([], [[0.1]]):
        with pytest.raises(ValueError, match="bootstrap_interval"):
            bootstrap_interval(values)
    with pytest.raises(ValueError, match="2 answers and 1 grades"):
        maj_at_k(["a", "b"], [True])
