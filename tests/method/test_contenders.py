"""Schedules that adapt, and the objectives of followers: by hand, and through kills."""

import json
import math
import random

import pytest
import torch

from prefix_opd.method import names
from prefix_opd.method.contenders.adwin import alignments
from prefix_opd.method.contenders.budget import removed_by_token
from prefix_opd.method.contenders.fast_opd import boundary
from prefix_opd.method.contenders.iw_opd import ImportanceWeighted
from prefix_opd.method.contenders.prune_opd import PruneOPD
from prefix_opd.method.schedule import SCHEDULES, extreme_lengths, prefix_lengths

LONGEST, BIN = 96, 6
MEANS, MAGNITUDES, TOKENS = names.by_position("all")
PROBE_MEANS, PROBE_MAGNITUDES, PROBE_TOKENS = names.by_position("probe")


def build(name, **settings):
    return SCHEDULES.build({"name": name, **settings})


def course(schedule, observed, longest=LONGEST):
    """L of each update; an update shows the given metrics, and its own L."""
    found = []
    for step, metrics in enumerate(observed, start=1):
        found += prefix_lengths(schedule, step, 1, longest)
        schedule.observe({names.PREFIX_LENGTH: found[-1], **metrics})
    return found


# ---- growth by a signal ----


def test_l_grows_after_three_quiet_updates_and_hysteresis_keeps_the_count():
    kl = [0.05, 0.05, 0.11, 0.05, 0.2, 0.05, 0.05, 0.05, 0.05]
    # below 0.1 counts; 0.11 is within 0.1 * 1.2 and keeps the count of 2; 0.2 begins it again
    found = course(build("signal", start=4), [{f"{MAGNITUDES}0": value} for value in kl])
    assert found == [4, 4, 4, 4, 6, 6, 6, 6, 9]


def test_the_last_bin_is_the_one_before_l():
    line = {f"{MAGNITUDES}0": 9.0, f"{MAGNITUDES}6": 0.01, f"{MAGNITUDES}12": 9.0}
    assert course(build("signal", start=12, patience=1), [line] * 2) == [12, 18]
    assert course(build("signal", start=13, patience=1), [line] * 2) == [13, 13], "position 12 is in the third bin"
    assert course(build("signal", start=6, patience=1), [line] * 2) == [6, 6]


def test_growth_above_a_threshold_and_by_entropy():
    line = {f"{MAGNITUDES}0": 0.3, f"{names.ENTROPY_BY_POSITION}0": 0.05}
    assert course(build("signal", start=4, patience=1, when="above"), [line] * 3) == [4, 6, 9]
    assert course(build("signal", start=4, patience=1), [line] * 2) == [4, 4]
    assert course(build("signal", start=4, patience=1, signal="entropy"), [line] * 2) == [4, 6]
    assert course(build("signal", start=4, patience=1), [{}] * 2) == [4, 4], "an update without the signal says nothing"


def test_l_stops_at_the_maximum():
    quiet = [{f"{MAGNITUDES}0": 0.0}] * 8
    schedule = build("signal", start=1, patience=1, factor=2)
    assert course(schedule, quiet, longest=10) == [1, 2, 4, 8, 10, 10, 10, 10]
    assert schedule.length == 16


def test_l_grows_when_the_validation_stands_still():
    accuracy = "val-core/tiny/reward/mean@1"
    seen = [{accuracy: 0.2}, {}, {accuracy: 0.3}, {accuracy: 0.305}, {}, {accuracy: 0.1}, {}]
    # 0.305 and 0.1 exceed 0.3 by no more than 0.01: two in a row
    assert course(build("validation", start=4, patience=2), seen) == [4, 4, 4, 4, 4, 4, 6]
    missing = [{accuracy: 0.2, names.VALIDATION_MISSING: 3}] * 3
    assert course(build("validation", start=4, patience=1), missing) == [4, 4, 4]


def test_l_grows_when_the_tail_drifts():
    seen = [{names.TAIL_RATIO: 1.0}, {}, {names.TAIL_RATIO: 1.3}, {}]
    assert course(build("tail", start=8, patience=1), seen) == [8, 8, 8, 12]


# ---- by the probe's profile ----


def probe(means, tokens):
    firsts = range(0, BIN * len(means), BIN)
    profile = {f"{PROBE_MEANS}{first}": mean for first, mean in zip(firsts, means, strict=True)}
    profile |= {f"{PROBE_MAGNITUDES}{first}": abs(mean) for first, mean in zip(firsts, means, strict=True)}
    profile |= {f"{PROBE_TOKENS}{first}": count for first, count in zip(firsts, tokens, strict=True)}
    return profile


def test_the_ratios_of_the_budget_by_hand():
    kl, tokens = {0: 1.0, 6: 0.5, 12: 0.1}, {0: 12, 6: 12, 12: 12}
    # prompts of 12 tokens in all: 12/24, 18/36, 19.2/48; of 24: 12/36, 18/48, 19.2/60
    assert removed_by_token(kl, tokens, prompt=12) == pytest.approx({6: 0.5, 12: 0.5, 18: 0.4})
    assert removed_by_token(kl, tokens, prompt=24) == pytest.approx({6: 1 / 3, 12: 0.375, 18: 0.32})


def test_the_budget_follows_each_probe():
    early, late = probe([1.0, 0.5, 0.1], [12, 12, 12]), probe([0.0, 0.0, 0.6], [12, 12, 12])
    # 36 tokens of mean 18 are 2 rollouts, with prompts of 12 tokens
    length = {names.PROBE_LENGTH: 18.0, names.PROMPT_LENGTH: 12.0}
    assert course(build("budget", start=3), [{**early, **length}, {}, {**late, **length}, {}]) == [3, 12, 12, 18]
    learnt = {**probe([-0.1, 0.0], [12, 12]), names.PROBE_LENGTH: 12.0, names.PROMPT_LENGTH: 12.0}
    assert course(build("budget", start=3), [learnt, {}]) == [3, 3], "no L removes reverse KL"
    even = {**probe([1.0, 0.5, 0.1], [12, 12, 12]), names.PROBE_LENGTH: 18.0, names.PROMPT_LENGTH: 6.0}
    assert course(build("budget", start=3), [even, {}]) == [3, 6], "of two L with the same ratio the shorter"


@pytest.mark.parametrize("name", ["budget", "adwin"])
def test_answers_within_the_first_bin_are_not_cut(name):
    seen = {**probe([0.5], [24]), names.PROBE_LENGTH: 4.0, names.PROMPT_LENGTH: 12.0}
    assert course(build(name, start=3), [seen, {}]) == [3, LONGEST], "its width is unknown, and not 1"


def test_a_bin_without_a_finite_mean_counts_nothing():
    """The metrics of a bin lack a mean that is not finite, and keep its number of tokens."""
    tokens = {0: 12, 6: 12}
    assert removed_by_token({0: 1.0}, tokens, prompt=12) == pytest.approx({6: 0.5, 12: 1 / 3})
    assert alignments({0: 9.0}, tokens) == {6: 1.0, 12: 1.0}
    line = boundary_line(2.0)
    del line[f"{MAGNITUDES}6"]
    assert boundary(line, 0, 12) == 2.0


def test_adwin_takes_the_shortest_aligned_prefix():
    # tokens times mean squares: 4 * 9, 4 * 4, 4 * 1 = 36, 16, 4: cosines sqrt(36/56), sqrt(52/56), 1
    found = alignments({0: 9.0, 6: 4.0, 12: 1.0}, {0: 4, 6: 4, 12: 4})
    assert found == pytest.approx({6: 0.80178, 12: 0.96362, 18: 1.0}, abs=1e-5)
    schedule = build("adwin", start=2, alignment=0.9, stale=2, increment=5)
    seen = [probe([3.0, 2.0, 1.0], [4, 4, 4]), {}, {}, {}, probe([0.1, 0.1, 3.0], [4, 4, 4]), {}]
    assert course(schedule, seen) == [2, 12, 12, 17, 22, 18], "stale two updates after the probe"


def test_adwin_reads_mean_squares():
    """One |A| of 10 among 100 tokens, then 100 tokens of 0.1: squares 100 and 1. The squared means would be equal."""
    seen = {**probe([0.1, 0.1], [100, 100]), names.PREFIX_LENGTH: 6}
    squares = {f"{names.PROBE_SQUARES}0": 1.0, f"{names.PROBE_SQUARES}6": 0.01}
    assert build("adwin").signal_of(seen | squares) == (pytest.approx((100 / 101) ** 0.5), 0.9)
    assert build("adwin").signal_of(seen) == (pytest.approx(0.5**0.5), 0.9), "metrics of earlier versions"


# ---- followers ----


def boundary_line(kl, cut=0.5, mean=0.0):
    parts = {MEANS: mean, MAGNITUDES: kl, TOKENS: 10}
    return {f"{part}{first}": value for part, value in parts.items() for first in (0, 6)} | {names.CUT: cut}


def test_fast_opd_grows_once_its_boundary_stands_still():
    settings = dict(start=6, increment=6, patience=2, entry=1, smoothing=0)
    # reference 1; 0.5 is a new low; 0.6 and 0.5 are none; after the growth the reference is new
    kl = [1.0, 0.5, 0.6, 0.5, 0.5, 0.4, 0.4]
    assert course(build("fast_opd", **settings), map(boundary_line, kl)) == [6, 6, 6, 6, 12, 12, 12]
    unused = [boundary_line(value, cut=0.05) for value in kl]
    assert course(build("fast_opd", **settings), unused) == [6] * 7, "too few rollouts reach L"
    # a signed mean below 0 is no reference: its later values would be new lows without end
    falling = [boundary_line(value, mean=0.5 - step / 10 if step else -0.1) for step, value in enumerate(kl)]
    assert course(build("fast_opd", **settings), falling) == [6, 6, 6, 6, 12, 12, 12]
    assert "factor" not in SCHEDULES["fast_opd"].model_fields, "it would be accepted and not read"


def test_fast_opd_reads_the_boundary_alone():
    line = {f"{MAGNITUDES}0": 1.0, f"{MAGNITUDES}6": 2.0, f"{MAGNITUDES}12": 4.0, f"{TOKENS}0": 1, f"{TOKENS}6": 1}
    line |= {f"{TOKENS}12": 3}
    assert boundary(line, 6, 18) == 3.5, "(1 * 2 + 3 * 4) / 4"
    assert boundary(line, 20, 30) == 4.0 and boundary({}, 0, 6) is None
    assert boundary({f"{MAGNITUDES}0": 0.0, f"{TOKENS}0": 1}, 0, 6) == 1e-4, "a floor for the logarithm"


@pytest.mark.parametrize(
    ("name", "settings", "lines", "found"),
    [
        ("signal", {"start": 9}, [{f"{MAGNITUDES}0": 0.5, f"{MAGNITUDES}6": 0.2}, {}], [(0.2, 0.1), None]),
        ("validation", {}, [{"val-core/tiny/reward/mean@1": a} for a in (0.2, 0.1)], [(0.2, None), (0.1, 0.21)]),
        ("tail", {}, [{}, {names.TAIL_RATIO: 1.3}], [None, (1.3, 1.1)]),
        # ln(0.5 / 1); 0.5 * ln(0.5) + 0.5 * ln(0.25)
        (
            "fast_opd",
            {"start": 6, "increment": 6, "entry": 1, "smoothing": 0.5},
            [boundary_line(kl) for kl in (1.0, 0.5, 0.25)],
            [None, (-0.693147, None), (-1.039721, -0.693147)],
        ),
        ("prune_opd", {}, [{names.RELIABLE_REACHED: 0.3, names.RELIABLE_MAX: 9}], [(0.3, 0.1)]),
        # L = 12 lies at the end of the second bin
        ("adwin", {"start": 12}, [probe([3.0, 2.0, 1.0], [4, 4, 4]), {}], [(0.963624, 0.9), None]),
        (
            "budget",
            {"start": 7},
            [{**probe([1.0, 0.5, 0.1], [12, 12, 12]), names.PROBE_LENGTH: 18.0, names.PROMPT_LENGTH: 12.0}],
            [(1 / 3, 0.375)],
        ),
        ("linear", {}, [{}], [None]),
    ],
)
def test_what_a_schedule_says_of_its_signal(name, settings, lines, found):
    schedule = build(name, **settings)
    for step, (metrics, expected) in enumerate(zip(lines, found, strict=True), start=1):
        seen = {names.PREFIX_LENGTH: prefix_lengths(schedule, step, 1, LONGEST)[0], **metrics}
        told = schedule.signal_of(seen)
        assert told == (expected and tuple(one and pytest.approx(one, abs=1e-6) for one in expected))
        schedule.observe(seen)


def test_prune_opd_lowers_all_weights_after_a_bad_token():
    log_q = torch.tensor([[-0.1, -5.0, -0.1, -5.0]])  # e^-5 = 0.7% is below 5%
    mask = torch.ones(1, 4)
    objective = PruneOPD(drop=0.5)
    assert objective.reliability(log_q, mask).tolist() == [[1, 0.5, 0.5, 0]]
    log_p = log_q - 1  # advantage 1 everywhere; the constant is 0.5
    assert objective.advantage(log_p, log_q, mask)[0].tolist() == pytest.approx([1.5, 1, 1, 0.5])
    found = objective.metrics(log_p, log_q, mask, torch.tensor([3]))
    assert found == {"prefix_opd/reliable_length/mean": 3, names.RELIABLE_MAX: 3, names.RELIABLE_REACHED: 1}
    assert PruneOPD().reliability(log_q, mask)[0].tolist() == pytest.approx([1, 0.99, 0.99, 0.98])


def test_prune_opd_grows_while_rollouts_are_reliable_and_shrinks_with_patience():
    schedule = build("prune_opd", start=20, increment=10, margin=2, patience=2, least=4)
    seen = [(0.5, 20), (0.0, 11), (0.0, 12), (0.0, 12), (0.0, 1), (0.0, 1)]
    lines = [{names.RELIABLE_REACHED: reached, names.RELIABLE_MAX: longest} for reached, longest in seen]
    assert course(schedule, lines) == [20, 30, 30, 14, 14, 4]


def test_iw_opd_by_hand():
    # |log-ratio| 1, 2, 1: shares before 0, 1/4, 3/4; weights 1.5, 1.375, 1.125
    log_p, log_q = torch.tensor([[-2.0, -1.0, -3.0, 0.0]]), torch.tensor([[-1.0, -3.0, -2.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert ImportanceWeighted().advantage(log_p, log_q, mask)[0, :3].tolist() == [1.5, -2.75, 1.125]
    assert ImportanceWeighted(gamma=1.0).advantage(log_p, log_q, mask)[0, 0] == 2
    assert ImportanceWeighted().advantage(log_p, log_p, mask).tolist() == [[0, 0, 0, 0]], "no gap, no division by 0"


# ---- kills ----

ADAPTIVE = sorted(
    name
    for name, cls in SCHEDULES.items()
    if cls.__module__.startswith("prefix_opd") and name != "steps" and cls().adapts
)
QUICK = dict(start=4, patience=1, increment=5, threshold=0.4, entry=1, smoothing=0.2, stale=3, margin=4, least=4)


def seen_at(step):
    """Metrics of an update that depend on the step alone, with a probe every 5 and a validation every 4 updates."""
    draw = random.Random(step)
    firsts = range(0, LONGEST, BIN)
    found = {f"{part}{first}": draw.uniform(0.01, 0.8) for part in (MEANS, MAGNITUDES) for first in firsts}
    found |= {f"{TOKENS}{first}": draw.randint(1, 9) for first in firsts}
    found |= {names.CUT: draw.random(), names.RELIABLE_REACHED: draw.random() / 5, names.RELIABLE_MAX: 30.0}
    found |= {names.PROMPT_LENGTH: 20.0}
    if step % 5 == 1:
        found |= probe([draw.uniform(0, 1) for _ in range(16)], [9] * 16)
        found |= {names.PROBE_LENGTH: 70.0, names.TAIL_RATIO: draw.uniform(0.5, 2)}
    if step % 4 == 0:
        found["val-core/tiny/reward/mean@1"] = draw.random()
    return found


def run(name, steps, kills=()):
    settings = {key: value for key, value in QUICK.items() if key in SCHEDULES[name].model_fields}
    schedule, found = build(name, **settings), []
    for step in range(1, steps + 1):
        found += prefix_lengths(schedule, step, 1, LONGEST)
        schedule.observe({**seen_at(step), names.PREFIX_LENGTH: found[-1]})
        if step in kills:  # a checkpoint, a new process
            state = json.loads(json.dumps(schedule.state_dict()))
            schedule = build(name, **settings)
            schedule.load_state_dict(state)
    return found


def test_these_adapt():
    assert ADAPTIVE == ["adwin", "budget", "fast_opd", "prune_opd", "signal", "tail", "validation"]


@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_killed_run_finds_the_same_lengths_after_20_kills(name):
    whole = run(name, 80)
    assert len(set(whole)) > 3, "L moves"
    assert run(name, 80, kills=set(random.Random(name).sample(range(1, 80), 20))) == whole
    assert run(name, 80, kills=set(range(1, 80))) == whole


@pytest.mark.parametrize("name", ADAPTIVE)
def test_no_course_leaves_what_a_plan_calls_the_shortest_and_the_longest(name):
    settings = {key: value for key, value in QUICK.items() if key in SCHEDULES[name].model_fields}
    for step, length in enumerate(run(name, 80), start=1):
        low, high = extreme_lengths(build(name, **settings), step, LONGEST)
        assert low <= length <= high


def test_the_longest_course_grows_as_often_as_patience_allows():
    schedule = build("signal", start=2, patience=3, factor=2)
    assert [extreme_lengths(schedule, step, 100) for step in (1, 3, 4, 7, 100)] == [
        *((2, 2), (2, 2), (2, 4), (2, 8), (2, 100)),
    ]
    assert math.isfinite(extreme_lengths(schedule, 10**6, 100)[1])
