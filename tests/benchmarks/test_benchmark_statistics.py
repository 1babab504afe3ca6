"""Medians, spreads and the fitted line, by hand."""

import pytest

from benchmarks.rows import fit_line, spread


def test_spread_is_median_and_quartiles():
    found = spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (found.median, found.low, found.high, found.count) == (3.0, 2.0, 4.0, 5)


def test_spread_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_a_line_is_found_again():
    line = fit_line([1, 2, 4], [2.5, 3.0, 4.0])  # 2 + x / 2
    assert line.fixed == pytest.approx(2.0)
    assert line.slope == pytest.approx(0.5)
    assert line.r_squared == pytest.approx(1.0)
    assert line.even == pytest.approx(4.0)  # 2 s fixed, 4 / 2 s variable


def test_least_squares_through_noise():
    # deviations of x: -1, 0, 1; of y: -1, 1, 0; so slope 1 / 2, and 1.5 of a total of 2 is left over
    line = fit_line([0, 1, 2], [0, 2, 1])
    assert (line.fixed, line.slope) == pytest.approx((0.5, 0.5))
    assert line.r_squared == pytest.approx(0.25)


def test_a_falling_line_has_no_even_point():
    assert fit_line([0, 1], [2, 1]).even is None


def test_one_x_makes_no_line():
    with pytest.raises(ValueError, match="1 different x"):
        fit_line([3, 3], [1, 2])
