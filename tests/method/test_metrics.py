"""Metrics of a batch, by hand."""

import pytest
import torch

from prefix_opd.method.metrics import (
    by_position,
    reverse_kl_by_position,
    reverse_kl_metrics,
    rollout_metrics,
    tail_growth,
)


def test_reverse_kl_is_student_minus_teacher_on_sampled_tokens():
    log_p, log_q = torch.tensor([-1.0, -2.0, -9.0]), torch.tensor([-3.0, -1.0, 0.0])
    found = reverse_kl_metrics(log_p, log_q, torch.tensor([True, True, False]))
    # 2 and -1: mean 0.5, mean magnitude 1.5
    assert found == {"reverse_kl/mean": 0.5, "reverse_kl/abs_mean": 1.5, "reverse_kl/max": 2.0}


def test_bins_hold_their_first_position_their_mean_and_their_count():
    values, positions = torch.tensor([1.0, 3.0, 10.0, 4.0]), torch.tensor([0, 1, 5, 0])
    # bins of 2: positions 0 and 1 -> (1 + 3 + 4) / 3; 2 and 3 -> nothing; 4 and 5 -> 10
    assert by_position(values, positions, 2) == [(0, pytest.approx(8 / 3), 3), (4, 10.0, 1)]
    assert by_position(torch.tensor([]), torch.tensor([], dtype=torch.int64), 2) == []


def test_what_became_of_the_rollouts():
    records = [
        {"ending": "cut", "generated_at": 1.0, "scored_at": 1.5},
        {"ending": "natural", "generated_at": 2.0, "scored_at": 2.25},
    ]
    found = rollout_metrics(records, [5, 2], [5, 3])
    assert (found["prefix_length"], found["prefix_length/min"]) == (5, 3)
    assert (found["ending/cut_fraction"], found["ending/natural_fraction"]) == (0.5, 0.5)
    assert (found["response_length/mean"], found["response_length/max"]) == (3.5, 5)
    # the teacher was done 0.25 s after the last rollout
    assert (found["seconds/rollout"], found["seconds/score"]) == (2.0, 0.25)


def test_the_signal_of_a_batch_by_hand():
    log_p, log_q = torch.tensor([-1.0, -2.0, -1.0, 0.0]), torch.tensor([-3.0, -1.0, -1.5, -4.0])
    positions, cut = torch.tensor([0, 1, 2, 0]), torch.tensor([True, True, True, False])
    found = reverse_kl_by_position(log_p, log_q, positions, {"cut": cut, "natural": ~cut}, 2)
    # log p - log q = 2, -1, 0.5 of the cut rollout and 4 of the other; bin 0 holds positions 0 and 1
    assert found == {
        "reverse_kl_by_position/0": pytest.approx(5 / 3),
        "reverse_kl_by_position/2": 0.5,
        "reverse_kl_abs_by_position/0": pytest.approx(7 / 3),
        "reverse_kl_abs_by_position/2": 0.5,
        "tokens_by_position/all/0": 3,
        "tokens_by_position/all/2": 1,
        "reverse_kl_by_position/cut/0": 0.5,
        "reverse_kl_by_position/cut/2": 0.5,
        "reverse_kl_abs_by_position/cut/0": 1.5,
        "reverse_kl_abs_by_position/cut/2": 0.5,
        "tokens_by_position/cut/0": 2,
        "tokens_by_position/cut/2": 1,
        "reverse_kl_by_position/natural/0": 4.0,
        "reverse_kl_abs_by_position/natural/0": 4.0,
        "tokens_by_position/natural/0": 1,
    }


def test_the_tail_is_what_lies_beyond_the_cap_in_both_probes():
    first = {0: (9.0, 4), 12: (1.0, 4), 24: (1.0, 1)}
    now = {0: (0.1, 4), 12: (2.0, 2), 24: (5.0, 2), 36: (7.0, 1)}
    # L=13 cuts the bin from 12; of those beyond it 24 alone was there at first
    assert tail_growth(now, first, 13).ratio == 5.0
    tail = tail_growth(now, first, 12)
    # of 2 tokens and 1, the smaller numbers: (2*2 + 5*1) / 3 = 3 now, (1*2 + 1*1) / 3 = 1 at first
    assert (tail.ratio, tail.worst, tail.worst_ratio) == (3.0, 24, 5.0)
    assert tail_growth(now, first, 40) is None


def test_other_response_lengths_are_no_growth():
    """Each bin fell to 0.9. With 10 tokens on both sides: (0.09 + 0.9) / (0.1 + 1.0)."""
    before, now = {10: (0.1, 100), 20: (1.0, 10)}, {10: (0.09, 10), 20: (0.9, 100)}
    found = tail_growth(now, before, 8)
    assert (found.ratio, found.worst_ratio) == (pytest.approx(0.9), pytest.approx(0.9))
