"""Metrics of a batch, by hand."""

import pytest
import torch

from prefix_opd.method.metrics import by_position, reverse_kl_metrics, rollout_metrics


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
