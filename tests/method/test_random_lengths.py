"""L at random, and the weights that undo its bias."""

import math

import pytest
import torch

from prefix_opd.method.contenders.random_lengths import Auto, InverseProbability, RandomLengths
from prefix_opd.method.schedule import Linear, extreme_lengths, prefix_lengths, rollout_lengths, survival
from prefix_opd.method.weighting import token_weights


def test_stratified_lengths_are_the_quantiles_of_the_distribution():
    # log-uniform over [1, 16): four strata [1, 2), [2, 4), [4, 8), [8, 16)
    found = sorted(prefix_lengths(RandomLengths(least=1), 3, 4, 15))
    assert [math.floor(math.log2(length)) for length in found] == [0, 1, 2, 3]
    uniform = sorted(prefix_lengths(RandomLengths(least=1, distribution="uniform"), 3, 3, 30))
    assert [(length - 1) // 10 for length in uniform] == [0, 1, 2]


def test_draws_follow_seed_and_step_alone():
    schedule = RandomLengths(least=2)
    assert prefix_lengths(schedule, 5, 64, 192) == prefix_lengths(RandomLengths(least=2), 5, 64, 192)
    others = [prefix_lengths(schedule, 6, 64, 192), prefix_lengths(RandomLengths(least=2, seed=1), 5, 64, 192)]
    assert prefix_lengths(schedule, 5, 64, 192) not in others


def test_auto_is_random_with_its_defaults():
    assert prefix_lengths(Auto(seed=3), 5, 64, 336) == prefix_lengths(RandomLengths(seed=3, least=8), 5, 64, 336)
    assert Auto().needs() == {"topk"}


def test_each_rollout_or_the_whole_update_has_its_own_length():
    found = rollout_lengths(RandomLengths(), 1, 16, 4, 192)
    assert [len(row) for row in found] == [4] * 16 and len({length for row in found for length in row}) > 30
    shared = rollout_lengths(RandomLengths(shared_by="update"), 1, 16, 4, 192)
    assert len({length for row in shared for length in row}) == 1
    assert rollout_lengths(Linear(start=5), 1, 3, 4, 192) == [5, 5, 5]


def test_the_upper_end_grows_to_the_maximum():
    # 2 -> 32 over 5 steps: the factor is 2
    schedule = RandomLengths(least=2, top=2, over=5)
    assert [extreme_lengths(schedule, step, 32) for step in (1, 2, 3, 5, 9)] == [
        *((2, 2), (2, 4), (2, 8), (2, 32), (2, 32)),
    ]
    assert set(prefix_lengths(schedule, 1, 8, 32)) == {2} and max(prefix_lengths(schedule, 5, 640, 32)) == 32


@pytest.mark.parametrize("distribution", ["log_uniform", "uniform"])
def test_the_probabilities_are_those_of_the_draws(distribution):
    schedule, rows = RandomLengths(least=3, distribution=distribution), 20_000
    drawn = prefix_lengths(schedule, 1, rows, 24)
    shares = survival(schedule, 1, 24)
    assert shares[:3] == [1, 1, 1] and 0 < shares[23] < shares[3] < 1
    for t in range(1, 25):  # stratified: the share of a quantile is exact up to one row
        assert sum(length >= t for length in drawn) == pytest.approx(rows * shares[t - 1], abs=1.01)


def test_weights_by_hand():
    # log-uniform over [1, 4): P(L >= 1, 2, 3) = 1, 1/2, ln(4/3)/ln 4 = 0.2075
    weighting = InverseProbability().at(RandomLengths(least=1), 1, 3)
    found = token_weights(torch.tensor([[True, True, True], [True, False, False]]), weighting)
    assert found[1].tolist() == [1, 0, 0]
    assert found[0].tolist() == pytest.approx([1, 2, 1 / 0.20752], rel=1e-4)
    clipped = InverseProbability(largest=2).at(RandomLengths(least=1), 1, 3)
    assert token_weights(torch.ones(1, 3).bool(), clipped).tolist() == [[1, 2, 2]]


def test_the_weighted_loss_has_the_expectation_of_full_length():
    # token losses 1, 2, … 12 of a rollout that would have 12 tokens; their sum is 78
    schedule, rows = RandomLengths(least=2), 4096
    weighting = InverseProbability(largest=1e9).at(schedule, 1, 12)
    lengths = torch.tensor(prefix_lengths(schedule, 1, rows, 12))
    mask = torch.arange(12) < lengths[:, None]
    losses = torch.arange(1, 13).double() * mask
    assert (token_weights(mask, weighting) * losses).sum() / rows == pytest.approx(78, rel=1e-3)
    assert losses.sum() / rows < 60, "unweighted, late tokens count less"


def test_an_update_of_full_length_has_no_weights():
    schedule = RandomLengths(least=2, full_every=3)
    assert prefix_lengths(schedule, 3, 4, 12) == [12] * 4 and survival(schedule, 3, 12) == [1] * 12
    assert InverseProbability().at(schedule, 3, 12).weights(torch.arange(12), None).tolist() == [1] * 12


def test_weights_need_a_distribution():
    with pytest.raises(ValueError, match="needs a schedule that draws L at random"):
        InverseProbability().at(Linear(), 1, 12)
