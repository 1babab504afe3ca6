"""Cut or ended, by hand."""

import pytest

from prefix_opd.method.ending import how_it_ended, stop_token_ids


@pytest.mark.parametrize(
    ("response", "longest", "ending"),
    [
        ([5, 6, 9], 8, "natural"),
        ([5, 6, 7], 3, "cut"),
        ([5, 6, 9], 3, "natural"),  # the end token was the last one allowed
        ([5, 9, 7], 3, "cut"),  # an end token in the middle stops nothing when it is no stop token of the engine
        ([5, 6], 3, "other"),  # neither: the engine gave up
        ([9], 1, "natural"),
        ([5], 1, "cut"),
    ],
)
def test_the_last_token_and_the_length_decide(response, longest, ending):
    assert how_it_ended(response, longest, end_token_ids={9, 10}) == ending


def test_an_empty_rollout_is_a_fault():
    with pytest.raises(ValueError, match="without tokens"):
        how_it_ended([], 3, {9})


def test_whose_end_tokens_stop_a_rollout():
    student, teacher = [151643], [151645, 151643]
    assert stop_token_ids("both", student, teacher) == [151643, 151645]
    assert stop_token_ids("student", student, teacher) == [151643]
    assert stop_token_ids("teacher", student, teacher) == [151643, 151645]
    assert stop_token_ids([7, 3], student, teacher) == [3, 7]
