"""The advice from a profile by hand; the probe itself runs in `tests/test_schedules_end_to_end.py`."""

import pytest

from prefix_opd.analysis import advice
from prefix_opd.analysis.advice import advise, advised_increment, profile, shares_of
from prefix_opd.analysis.signal import Bin
from prefix_opd.base.errors import UserError
from prefix_opd.cost.arithmetic import ResponseLengths
from prefix_opd.cost.plan import plan
from prefix_opd.cost.record import Assumptions
from prefix_opd.launch import prepare


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


def test_full_opd_and_the_linear_schedule_drop_what_does_not_go_with_them(monkeypatch):
    """The weighting needs a random L. Full OPD has no maximum and no budget."""
    given = ["experiment=tiny/random_weighted", "prefix_opd.schedule.maximum=24", "prefix_opd.flop_budget=2e10"]
    prompts = []

    def probe(config, case, pairs, longest, seed):
        prompts.extend(len(prompt) for prompt, _ in pairs)
        return [([1], [-2.0]), ([1], [-2.0])], [[-1.0], [-1.0]], [100, 118]

    monkeypatch.setattr(advice, "_probe", probe)
    config = prepare(given)
    found = advise(config, 2, 0, lambda more: prepare([*given, *more]))
    uniform = "prefix_opd.weighting.name=uniform"
    assert {name: course.overrides for name, course in found.courses.items()} == {
        "auto": advice.AUTO,
        "linear": [uniform, *(f"prefix_opd.schedule.{one}" for one in ("name=linear", "start=1", "increment=2"))],
        "full": [
            *("prefix_opd.schedule.name=full", uniform),
            *("prefix_opd.schedule.maximum=null", "prefix_opd.flop_budget=null"),
        ],
    }
    assumed = Assumptions(sum(prompts) / 2, responses=ResponseLengths(((100.0, 0.5), (118.0, 0.5))))
    linear = ["experiment=tiny/schedule", *given[1:]]  # the budget ends it
    for name, run in {"full": ["experiment=tiny/full"], "linear": linear}.items():
        assert found.courses[name].flops == plan(prepare(run), assumed).cost.flop["exact"].total


def test_a_course_that_the_settings_do_not_allow_is_refused_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(advice, "_probe", None)
    config = prepare(["experiment=tiny/schedule"])

    def prepared(more):
        raise UserError(more[0], "no")

    with pytest.raises(UserError, match="prefix_opd.schedule.name=linear: no"):
        advise(config, 2, 0, prepared)
