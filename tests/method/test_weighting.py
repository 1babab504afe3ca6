"""Which positions teach, by hand."""

import torch

from prefix_opd.method.weighting import WEIGHTINGS, Last, Uniform, Weighting, Window, token_weights

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.bool)
TOOL = torch.tensor([[1, 1, 0, 0, 1, 1, 1]], dtype=torch.bool)
"""Two tokens, a tool's output of two, three tokens."""


def weights(mask=MASK, **settings):
    found = token_weights(mask, WEIGHTINGS.build(settings))
    return None if found is None else found.tolist()


def test_uniform_multiplies_nothing():
    assert weights() is None


def test_window_is_half_open_and_counts_from_the_first_response_token():
    assert weights(name="window", start=1, stop=3) == [[0, 1, 1, 0, 0], [0, 1, 0, 0, 0]]


def test_last_counts_from_each_responses_own_end():
    assert weights(name="last", tokens=2) == [[0, 0, 0, 1, 1], [1, 1, 0, 0, 0]]
    assert weights(name="last", tokens=9) == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]


def test_positions_count_the_students_tokens_and_tools_have_no_weight():
    assert weights(TOOL, name="window", start=1, stop=3) == [[0, 1, 0, 0, 1, 0, 0]]
    assert weights(TOOL, name="last", tokens=4) == [[0, 1, 0, 0, 1, 1, 1]]


class Ramp(Weighting):
    """0, 1, 2, … over the positions."""

    def weights(self, positions, lengths):
        return positions


def test_a_plan_counts_the_tokens_that_teach():
    # of 5 tokens: [1, 3) has 2, [3, 9) has 2; of 2 tokens none of [3, 9) is there
    assert Window(start=1, stop=3).counted(5) == 2
    assert Window(start=3, stop=9).counted(5) == 2 and Window(start=3, stop=9).counted(2) == 0
    assert Last(tokens=2).counted(5) == 2 and Last(tokens=9).counted(5) == 5
    assert Uniform().counted(2.5) == 2.5
    assert Ramp().counted(5) == 4, "the first token has weight 0"
    for shipped in (Window(start=1, stop=3), Last(tokens=2)):
        assert shipped.counted(5) == Weighting.counted(shipped, 5)
