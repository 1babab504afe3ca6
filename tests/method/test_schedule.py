"""L(step), by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefix_opd.base.errors import UserError
from prefix_opd.config.settings import ScheduleSettings, Settings
from prefix_opd.method.schedule import SCHEDULES, prefix_length, register_schedule


def lengths(updates, response_length=16384, **settings):
    schedule = ScheduleSettings(**settings)
    return [prefix_length(step, schedule, response_length) for step in updates]


def test_linear_is_the_papers_schedule():
    # 1 + 256 * (step - 1); the 60th and last update of the paper: 1 + 256 * 59 = 15105
    assert lengths([1, 2, 3, 60], name="linear", start=1, increment=256) == [1, 257, 513, 15105]


def test_linear_stops_at_the_maximum_and_at_the_response_length():
    assert lengths([4, 5, 6], name="linear", start=1, increment=256, maximum=1000) == [769, 1000, 1000]
    assert lengths([2], response_length=100, name="linear", start=1, increment=256) == [100]


def test_constant_and_full():
    assert lengths([1, 7], name="constant", length=512) == [512, 512]
    assert lengths([1, 7], name="full") == [16384, 16384]
    assert lengths([1], name="full", maximum=2048) == [2048]


def test_steps_change_at_their_first_step():
    assert lengths([1, 10, 11, 99], name="steps", steps=[[1, 256], [11, 1024]]) == [256, 256, 1024, 1024]


def test_cosine_starts_flat_passes_the_middle_and_arrives():
    # over=5: progress 0, 1/4, 1/2, 3/4, 1; (1 - cos(pi/4)) / 2 = 0.14645 -> 1 + 100 * 0.14645 = 15.6
    assert lengths([1, 2, 3, 4, 5, 9], response_length=101, name="cosine", start=1, over=5) == [1, 15, 51, 86, 101, 101]


def test_geometric_multiplies_by_a_constant_factor():
    # from 1 to 16 over 5 steps: the factor is 2
    assert lengths([1, 2, 3, 4, 5, 6], response_length=16, name="geometric", start=1, over=5) == [1, 2, 4, 8, 16, 16]


def test_the_first_step_is_one():
    with pytest.raises(ValueError, match="step=0"):
        prefix_length(0, ScheduleSettings(), 16)


def test_a_schedule_of_ones_own():
    register_schedule("test-square")(lambda step, settings, longest: step * step)
    try:
        assert lengths([1, 2, 3], name="test-square") == [1, 4, 9]
        with pytest.raises(ValueError, match="registered already"):
            register_schedule("test-square")(lambda step, settings, longest: 1)
    finally:
        del SCHEDULES["test-square"]


@given(
    name=st.sampled_from(["linear", "constant", "full", "cosine", "geometric"]),
    step=st.integers(1, 10_000),
    start=st.integers(1, 50),
    increment=st.integers(1, 5000),
    response_length=st.integers(1, 20_000),
    over=st.integers(1, 100),
)
def test_every_length_is_possible_and_none_shrinks(name, step, start, increment, response_length, over):
    settings = ScheduleSettings(name=name, start=min(start, response_length), increment=increment, over=over)
    now, then = (prefix_length(s, settings, response_length) for s in (step, step + 1))
    assert 1 <= now <= then <= response_length


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ({"name": "liner"}, "prefix_opd.schedule.name=liner: is not one of"),
        ({"start": 0}, "prefix_opd.schedule.start=0: input should be greater than or equal to 1"),
        ({"increment": -5}, "prefix_opd.schedule.increment=-5: input should be greater than or equal to 1"),
        ({"increment": 1.5}, "prefix_opd.schedule.increment=1.5: must be a whole number"),
        ({"start": True}, "prefix_opd.schedule.start=True: must be a whole number"),
        ({"maximum": 0}, "prefix_opd.schedule.maximum=0: input should be greater than or equal to 1"),
        ({"maximum": "much"}, "prefix_opd.schedule.maximum=much: must be a whole number"),
        ({"name": "steps", "steps": []}, "steps=[] is empty"),
        ({"name": "steps", "steps": [[1, 5], [9, 6], [4, 7]]}, "first steps [1, 9, 4]; they must start at 1 and rise"),
        ({"name": "steps", "steps": [[2, 5]]}, "they must start at 1"),
        ({"lenght": 5}, "prefix_opd.schedule.lenght: is not a setting"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(node, line):
    with pytest.raises(UserError) as error:
        Settings.from_node({"schedule": node})
    assert line in str(error.value) and "\n" not in str(error.value)
