"""L(step), by hand."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefix_opd.base.errors import UserError
from prefix_opd.base.fields import Tokens
from prefix_opd.config.settings import Settings
from prefix_opd.method.schedule import SCHEDULES, Constant, Linear, Schedule, prefix_lengths


def lengths(updates, response_length=16384, **settings):
    schedule = SCHEDULES.build(settings)
    return [prefix_lengths(schedule, step, 1, response_length)[0] for step in updates]


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


def test_a_power_is_slow_at_first():
    # over=5: progress 0, 1/4, 1/2, 3/4, 1, squared 0, 1/16, 1/4, 9/16, 1, times 16, plus 1
    assert lengths([1, 2, 3, 4, 5, 9], response_length=17, name="power", over=5) == [1, 2, 5, 10, 17, 17]
    assert lengths([3], response_length=17, name="power", over=5, power=3) == [3]


def test_some_updates_have_full_length():
    linear = dict(name="linear", start=1, increment=1, response_length=50)
    assert lengths(range(1, 8), **linear, full_every=3) == [1, 2, 50, 4, 5, 50, 7]
    assert lengths(range(1, 5), **linear, full_from=3, maximum=20) == [1, 2, 20, 20]


def test_the_first_step_is_one():
    with pytest.raises(ValueError, match="step=0"):
        prefix_lengths(Linear(), 0, 1, 16)


@pytest.fixture
def square():
    """A user's schedule, registered for the duration of a test."""

    @SCHEDULES.register("test-square")
    class Square(Schedule):
        factor: Tokens = 1
        """L at step 1, tokens."""

        def prefix_length(self, step: int, longest: int) -> float:
            return self.factor * step**2

    yield Square
    del SCHEDULES["test-square"]


def test_a_schedule_of_ones_own_is_checked_like_ours(square):
    assert lengths([1, 2, 3], name="test-square") == [1, 4, 9]
    node = {"name": "test-square", "factor": 2, "increment": 256}  # the shipped YAML has the keys of every schedule
    assert lengths([1, 2, 3], **node) == [2, 8, 18]
    for node, line in (
        ({"name": "test-square", "factor": 0}, "prefix_opd.schedule.factor=0: input should be greater than or equal"),
        ({"name": "test-square", "increment": 0}, "prefix_opd.schedule.increment=0: input should be greater than"),
        ({"name": "test-sqare"}, "did you mean 'test-square'?"),
    ):
        with pytest.raises(UserError) as error:
            Settings.from_node({"schedule": node})
        assert line in str(error.value)


def test_a_name_is_registered_once(square):
    with pytest.raises(ValueError, match="schedule 'test-square' is registered already"):
        SCHEDULES.register("test-square")(square)


class Alternating(Schedule):
    """Alternates short and long rows."""

    def prefix_lengths(self, step: int, longest: int, rows: int) -> list[float]:
        return [4.9 if row % 2 else 2 * longest for row in range(rows)]


def test_each_row_may_have_a_length_of_its_own():
    # 2 * 16 is bounded by 16, 4.9 is rounded down
    assert prefix_lengths(Alternating(), 1, 3, 16) == [16, 4, 16]
    assert prefix_lengths(Constant(length=5), 1, 3, 16) == [5, 5, 5]


class OneTooFew(Schedule):
    def prefix_lengths(self, step: int, longest: int, rows: int) -> list[float]:
        return [1.0] * (rows - 1)


def test_a_row_without_a_length_is_an_error():
    with pytest.raises(ValueError, match="step 2: the schedule gave 2 lengths for 3 rows"):
        prefix_lengths(OneTooFew(), 2, 3, 16)


class Doubling(Schedule):
    """Doubles L whenever the student is near the teacher."""

    near: float = 0.5
    """Mean reverse KL per token, nats."""
    _length: int = 1

    def prefix_length(self, step: int, longest: int) -> float:
        return self._length

    def observe(self, metrics) -> None:
        if metrics["prefix_opd/reverse_kl/mean"] < self.near:
            self._length *= 2


def test_what_a_schedule_learns_survives_a_checkpoint():
    schedule, found = Doubling(), []
    for step, kl in enumerate((0.9, 0.4, 0.3, 0.7), start=1):
        found += prefix_lengths(schedule, step, 1, 100)
        schedule.observe({"prefix_opd/reverse_kl/mean": kl})
    assert found == [1, 1, 2, 4] and schedule.adapts and not Linear().adapts
    resumed = Doubling()
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert prefix_lengths(resumed, 5, 1, 100) == [4] and Doubling()._length == 1
    assert Linear().state_dict() == {}


@settings(deadline=None)
@given(
    name=st.sampled_from(["linear", "constant", "full", "cosine", "geometric", "power"]),
    step=st.integers(1, 10_000),
    start=st.integers(1, 50),
    increment=st.integers(1, 5000),
    response_length=st.integers(1, 20_000),
    over=st.integers(1, 100),
)
def test_every_length_is_possible_and_none_shrinks(name, step, start, increment, response_length, over):
    node = dict(name=name, start=min(start, response_length), increment=increment, over=over)
    now, then = lengths([step, step + 1], response_length, **node)
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
        ({"name": "power", "power": 0}, "prefix_opd.schedule.power=0: input should be greater than 0"),
        ({"full_every": -1}, "prefix_opd.schedule.full_every=-1: input should be greater than or equal to 0"),
        ({"full_from": 0}, "prefix_opd.schedule.full_from=0: input should be greater than or equal to 1"),
        ({"name": "random", "least": 0}, "prefix_opd.schedule.least=0: input should be greater than or equal to 1"),
        ({"name": "random", "top": 4}, "top=4 is below least=8; raise the one or lower the other"),
        ({"name": "random", "maximum": 4}, "maximum=4 is below least=8"),
        ({"distribution": "normal"}, "prefix_opd.schedule.distribution=normal: input should be 'log_uniform' or"),
        ({"patience": 0}, "prefix_opd.schedule.patience=0: input should be greater than or equal to 1"),
        ({"factor": 1}, "prefix_opd.schedule.factor=1: input should be greater than 1"),
        ({"threshold": 0}, "prefix_opd.schedule.threshold=0: input should be greater than 0"),
        ({"threshold": float("inf")}, "prefix_opd.schedule.threshold=inf: input should be a finite number"),
        ({"hysteresis": 0.9}, "prefix_opd.schedule.hysteresis=0.9: input should be greater than or equal to 1"),
        ({"gain": -0.1}, "prefix_opd.schedule.gain=-0.1: input should be greater than or equal to 0"),
        ({"tail_ratio": 0}, "prefix_opd.schedule.tail_ratio=0: input should be greater than 0"),
        ({"hit": 1.5}, "prefix_opd.schedule.hit=1.5: input should be less than or equal to 1"),
        ({"smoothing": 1}, "prefix_opd.schedule.smoothing=1: input should be less than 1"),
        ({"alignment": 1.1}, "prefix_opd.schedule.alignment=1.1: input should be less than or equal to 1"),
        ({"signal": "loss"}, "prefix_opd.schedule.signal=loss: input should be 'reverse_kl' or 'entropy'"),
        ({"lenght": 5}, "prefix_opd.schedule.lenght: is not a setting"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(node, line):
    with pytest.raises(UserError) as error:
        Settings.from_node({"schedule": node})
    assert line in str(error.value) and "\n" not in str(error.value)
