"""Which positions teach, by hand."""

import torch

from prefix_opd.config.settings import WeightingSettings
from prefix_opd.method.weighting import token_weights

LENGTHS = torch.tensor([5, 2])


def weights(**settings):
    found = token_weights(LENGTHS, 5, WeightingSettings(**settings))
    return None if found is None else found.tolist()


def test_uniform_multiplies_nothing():
    assert weights() is None


def test_window_is_half_open_and_counts_from_the_first_response_token():
    assert weights(name="window", start=1, stop=3) == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0]]


def test_last_counts_from_each_responses_own_end():
    assert weights(name="last", tokens=2) == [[0, 0, 0, 1, 1], [1, 1, 0, 0, 0]]
    assert weights(name="last", tokens=9) == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
