"""The advice from a profile by hand; the probe itself runs in `tests/test_schedules_end_to_end.py`."""

import json
import math
import shutil

import pytest

from prefix_opd.analysis import advice, continuation
from prefix_opd.analysis.advice import advise, advised_increment, kept, profile, shares_of
from prefix_opd.analysis.signal import Bin
from prefix_opd.base.errors import UserError
from prefix_opd.cost.arithmetic import ResponseLengths
from prefix_opd.cost.plan import plan
from prefix_opd.cost.record import Assumptions
from prefix_opd.launch import prepare
from prefix_opd.method.contenders.random_lengths import RandomLengths
from prefix_opd.method.schedule import Full, Linear
from prefix_opd.miniature.paths import shipped_models


def test_the_profile_pools_the_tokens_of_all_responses():
    # gaps 2, -1, 4 and 1: bin 0 has 2, -1, 1; bin 2 has 4
    bins = profile([[-1.0, -2.0, -1.0], [-1.0]], [[-3.0, -1.0, -5.0], [-2.0]], width=2)
    assert bins == [Bin(0, 3, pytest.approx(2 / 3), pytest.approx(4 / 3)), Bin(2, 1, 4.0, 4.0)]
    assert shares_of(bins) == pytest.approx([0.5, 1.0])
    assert shares_of([Bin(0, 3, 0.0, 0.0)]) == [1.0], "a student that is its teacher"


def test_a_schedule_keeps_the_signal_before_its_prefix_length():
    """Two bins of 2 positions with |reverse KL| 6 and 2 in sum, at most 4 tokens."""
    bins = [Bin(0, 6, 1.0, 1.0), Bin(2, 1, 2.0, 2.0)]
    linear = Linear(start=1, increment=2)  # L = 1, 3: half of the first bin; all of it and half of the second
    assert kept(linear, 2, 2, 4, bins, 2) == pytest.approx((3 / 8 + 7 / 8) / 2)
    assert kept(linear, 1, 2, 4, bins, 2) == pytest.approx(3 / 8 / 2), "a budget ends it after one of two updates"
    assert kept(Full(), 2, 2, 4, bins, 2) == 1
    # P(L >= t) is 1, ln(5/2) / ln 5, ln(5/3) / ln 5, ln(5/4) / ln 5
    auto = RandomLengths(least=1)
    of_t = [1, math.log(5 / 2) / math.log(5), math.log(5 / 3) / math.log(5), math.log(5 / 4) / math.log(5)]
    expected = (6 * (of_t[0] + of_t[1]) + 2 * (of_t[2] + of_t[3])) / 2 / 8
    assert kept(auto, 3, 3, 4, bins, 2) == pytest.approx(expected)
    assert kept(linear, 1, 2, 4, [Bin(0, 4, 0.0, 0.0)], 2) == 0.5, "a student that is its teacher"


@pytest.mark.parametrize(
    "log_q, advised",
    [
        # all of the signal in the first tokens, or in the last ones
        ([-9.0] * 12 + [-2.0] * 108, "auto"),
        ([-2.0] * 108 + [-9.0] * 12, "topk_full"),
    ],
)
def test_the_advice_follows_the_position_of_the_signal(monkeypatch, log_q, advised):
    monkeypatch.setattr(advice, "_probe", lambda *given: ([([1] * 120, [-2.0] * 120)], [log_q], [120]))
    given = ["experiment=tiny/schedule"]
    found = advise(prepare(given), 2, 0, lambda more: prepare([*given, *more]))
    assert found.advised == advised
    assert found.courses["full"].signal == found.courses["topk_full"].signal == pytest.approx(1)


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
    full = [
        *("prefix_opd.schedule.name=full", uniform),
        *("prefix_opd.schedule.maximum=null", "prefix_opd.flop_budget=null"),
    ]
    assert {name: course.overrides for name, course in found.courses.items()} == {
        "auto": advice.AUTO,
        "linear": [uniform, *(f"prefix_opd.schedule.{one}" for one in ("name=linear", "start=1", "increment=2"))],
        "topk_full": [*full, *advice.TOPK],
        "full": full,
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


def test_weights_that_do_not_fit_their_config_are_refused_before_a_model_is_loaded(tmp_path, monkeypatch):
    folder = shutil.copytree(shipped_models()["student"], tmp_path / "student")
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "num_hidden_layers": 5, "layer_types": None}))
    config = prepare(["experiment=tiny/schedule", f"actor_rollout_ref.model.path={folder}"])
    monkeypatch.setattr(continuation, "_model", None)
    with pytest.raises(UserError, match="is missing in its weights"):
        continuation.measure("student-prefix", config, [8], 6, problems=2, samples=1, seed=0)
    with pytest.raises(UserError, match="is missing in its weights"):
        advise(config, prompts=2, seed=0, prepared=prepare)
