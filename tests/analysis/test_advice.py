"""The advice from a profile by hand; the probe itself runs in `tests/test_schedules_end_to_end.py`."""

import pytest

from prefix_opd.analysis.advice import advised_increment, profile, shares_of
from prefix_opd.analysis.signal import Bin


def test_the_profile_pools_the_tokens_of_all_responses():
    # gaps 2, -1, 4 and 1: bin 0 has 2, -1, 1; bin 2 has 4
    bins = profile([[-1.0, -2.0, -1.0], [-1.0]], [[-3.0, -1.0, -5.0], [-2.0]], width=2)
    assert bins == [Bin(0, 3, pytest.approx(2 / 3), pytest.approx(4 / 3)), Bin(2, 1, 4.0, 4.0)]
    assert shares_of(bins) == pytest.approx([0.5, 1.0])
    assert shares_of([Bin(0, 3, 0.0, 0.0)]) == [1.0], "a student that is its teacher"


def test_the_increment_reaches_the_teachers_answer_at_the_last_update():
    assert advised_increment(109, 55) == 2  # 1 + 2 * 54 = 109
    assert advised_increment(110, 55) == 3 and advised_increment(16384, 60) == 278
    assert advised_increment(107.6, 55) == 2 and advised_increment(213.0, 55) == 4, (
        "as in tiny/schedule, cells/schedule"
    )
    assert advised_increment(1, 55) == 1 and advised_increment(50, 1) == 49
