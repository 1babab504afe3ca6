"""One list of metric names: what producers write stands in it."""

import json

import torch
from listed import is_listed

from prefix_opd.method import metrics, names


def test_what_the_formulas_return_is_listed():
    values, positions = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 1, 5])
    groups = {"cut": positions < 2, "natural": positions >= 2}
    record = {"ending": "cut", "generated_at": 1.0, "scored_at": 2.0}
    found = {
        **metrics.reverse_kl_metrics(values, values * 2, values > 0),
        **metrics.reverse_kl_by_position(values, values * 2, positions, groups, 4),
        **metrics.rollout_metrics([record], [3], [4]),
    }
    assert len(found) > 20 and [name for name in found if not is_listed(names.OURS + name)] == []


def test_a_name_that_is_not_listed():
    assert is_listed("prefix_opd/probe/tokens_by_position/12") and is_listed("prefix_opd/tokens/scored")
    for wrong in ("prefix_opd/tokens", "prefix_opd/tokens/{scored}", "prefix_opd/tokens_by_position/probe/1", "x"):
        assert not is_listed(wrong)


def test_what_verl_calls_a_validation():
    line = {
        "step": 3,
        "val-core/tiny/chain/reward/mean@1": 0.5,
        "val-core/math/acc/mean@4": 0.25,
        "val-core/math/acc/best@4/mean": 1.0,
        "val-aux/math/score/mean@4": 0.7,
        "val-aux/tiny/chain/response_length/mean@1": 12.0,
    }
    assert names.accuracies(line) == {"tiny/chain": (0.5, 1), "math": (0.25, 4)}
    assert names.validation_lengths(line) == [12.0]


def test_bins_are_those_of_the_prefix_alone():
    every, cut = names.by_position("all")[0], names.by_position("cut")[0]
    line = json.loads(json.dumps({f"{every}0": 1.0, f"{every}12": 2.0, f"{cut}0": 3.0, every: 4.0}))
    assert names.bins(line, every) == {0: 1.0, 12: 2.0} and names.bins(line, cut) == {0: 3.0}
