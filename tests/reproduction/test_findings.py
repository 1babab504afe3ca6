"""Verdicts follow from the numbers, by rules worked out by hand here."""

from dataclasses import replace

import pytest
from made_up import prefixes, record, whole

from prefix_opd.analysis.compute import cost_of
from reproduction.findings import (
    FAILS,
    FINDINGS,
    HOLDS,
    OPEN,
    PARTLY,
    Evidence,
    early_compute_is_cheaper,
    early_over_late,
    half_gain_costs,
    high_learning_rate_hurts,
    later_windows_are_worse,
    one_step_early_teaches_as_well,
    prefix_seqkd_hurts,
    reverse_kl_is_stronger,
    schedule_matches_full,
    short_prefix_loses_the_tail,
    signal_is_early,
    teachers_prefix_helps,
)
from reproduction.record import curve


def test_an_arms_seeds_together():
    places = curve([record("full", 0, 0.0, 0.4), record("full", 1, 0.2, 0.6, flops=10.0)])
    assert [place.step for place in places] == [0, 10]
    last = places[-1]
    assert (last.accuracy, last.flops, last.seconds) == (0.5, 9.0, 40.0)
    # Wilson at one half of 400: 0.5 -+ 1.96 sqrt(0.25 / 400 + 1.96^2 / (4 * 400^2)) / (1 + 1.96^2 / 400) = 0.0488
    assert last.interval == pytest.approx((0.4512, 0.5488), abs=1e-4)
    assert last.band == (0.4, 0.6), "a seed beyond the interval widens the band"


def test_a_seed_that_lacks_a_validation_takes_it_from_the_curve():
    places = curve([record("full", 0, 0.0, 0.4, 0.5), record("full", 1, 0.2, 0.6)])
    assert [place.step for place in places] == [0, 10]


def test_higher_means_that_the_bands_do_not_overlap():
    (low,), (high,), (near,) = (curve([record("seqkd", 0, 0.0, share)]) for share in (0.40, 0.52, 0.45))
    assert high.above(low) and not low.above(high) and not near.above(low)


def test_flop_to_an_accuracy_is_linear_between_validations():
    places = curve([record("full", 0, 0.1, 0.3, 0.2, 0.7, flops=30.0)])
    assert cost_of(places, 0.1, "flops") == 0.0
    assert cost_of(places, 0.2, "flops") == pytest.approx(5.0)  # half of the way to the validation at 10 FLOP
    assert cost_of(places, 0.45, "flops") == pytest.approx(25.0)  # from 0.2 at 20 to 0.7 at 30: half of the way
    assert cost_of(places, 0.8, "flops") is None


def test_everything_holds_where_the_numbers_are_the_papers():
    found = prefixes("teacher-prefix", {0: 0.05, 12: 0.3, 24: 0.5})
    evidence = Evidence.of(whole(), {"teacher-prefix": found})
    assert {finding.title: finding.judge(evidence).word for finding in FINDINGS} == {
        finding.title: HOLDS for finding in FINDINGS
    }


def test_nothing_is_claimed_without_runs():
    assert {finding.judge(Evidence.of([])).word for finding in FINDINGS} == {OPEN}


def test_signal():
    # early bins 2 and 1 (mean 1.5), late ones 0.5 and 0.25 (mean 0.375): 4 times; the second update is not read
    signal = {1: {0: 2.0, 12: 1.0, 24: 0.5, 36: 0.25}, 2: {0: 0.0, 24: 9.0}}
    assert early_over_late(signal, 4) == pytest.approx(4.0)
    early, late = ({1: {0: a, 24: b}} for a, b in ((2.0, 1.0), (1.0, 2.0)))
    for signals, word in (((early, early), HOLDS), ((early, late), PARTLY), ((late, late), FAILS)):
        runs = [record("full", seed, 0.0, 0.5, signal=signal) for seed, signal in enumerate(signals)]
        assert signal_is_early(Evidence.of(runs)).word == word
    assert signal_is_early(Evidence.of([record("full", 0, 0.0, 0.5, signal={1: {0: 1.0}})])).word == OPEN


@pytest.mark.parametrize(("shares", "word"), [((0.3, 0.4), HOLDS), ((0.06, 0.4), PARTLY), ((0.05, 0.06), FAILS)])
def test_teachers_prefix(shares, word):
    found = prefixes("teacher-prefix", dict(zip((0, 3, 24), (0.05, *shares), strict=True)))
    assert teachers_prefix_helps(Evidence.of([], {"teacher-prefix": found})).word == word
    assert teachers_prefix_helps(Evidence.of([], {"student-prefix": found})).word == OPEN, "its mirror is not it"


def test_half_of_the_gain():
    # full gains 0.8 at 80 FLOP, half of it at 40; the prefix is there after 2 of its 4 FLOP: 5%
    runs = [record("full", 0, 0.0, 0.4, 0.8, flops=80.0), record("prefix_3", 0, 0.0, 0.8, flops=4.0)]
    evidence = Evidence.of(runs)
    assert half_gain_costs(evidence) == {"full": 40.0, "prefix_3": 2.0}
    verdict = early_compute_is_cheaper(evidence)
    assert verdict.word == HOLDS and "5.0%" in verdict.numbers
    runs[0] = record("full", 0, 0.0, 0.8, flops=80.0)
    verdict = early_compute_is_cheaper(Evidence.of(runs))
    assert verdict.word == OPEN and verdict.numbers.endswith("a straight line's guess")


@pytest.mark.parametrize(
    ("end", "flops", "word"), [(0.8, 9.0, PARTLY), (0.8, 90.0, FAILS), (0.3, 1.0, FAILS)], ids=["dear", "dearer", "low"]
)
def test_half_of_the_gain_that_is_dear_or_never_reached(end, flops, word):
    runs = [record("full", 0, 0.0, 0.4, 0.8, flops=80.0), record("prefix_12", 0, 0.0, end, flops=flops)]
    assert early_compute_is_cheaper(Evidence.of(runs)).word == word


def test_no_gain_no_verdict():
    runs = [record("full", 0, 0.5, 0.5), record("prefix_12", 0, 0.5, 0.6)]
    verdict = early_compute_is_cheaper(Evidence.of(runs))
    assert (verdict.word, verdict.numbers) == (OPEN, "full OPD gained nothing")


@pytest.mark.parametrize(("ends", "word"), [((0.2, 0.3), HOLDS), ((0.2, 0.8), PARTLY), ((0.79, 0.8), FAILS)])
def test_the_tail(ends, word):
    runs = [record("full", 0, 0.0, 0.8)]
    runs += [record(arm, 0, 0.0, end) for arm, end in zip(("prefix_3", "prefix_24"), ends, strict=True)]
    assert short_prefix_loses_the_tail(Evidence.of(runs)).word == word


@pytest.mark.parametrize(
    ("end", "flops", "seconds", "word"),
    [
        (0.78, 50.0, 60.0, HOLDS),
        (0.78, 51.0, 60.0, PARTLY),
        (0.78, 50.0, 61.0, PARTLY),
        (0.78, 100.0, 100.0, FAILS),
        (0.60, 50.0, 60.0, FAILS),
        (0.90, 50.0, 60.0, HOLDS),
    ],
)
def test_the_schedule_against_full(end, flops, seconds, word):
    runs = [
        record("full", 0, 0.0, 0.8, flops=100.0, seconds=100.0),
        record("schedule", 0, 0.0, end, flops=flops, seconds=seconds),
    ]
    assert schedule_matches_full(Evidence.of(runs)).word == word


@pytest.mark.parametrize(
    ("middle", "word"), [((0.0, 0.1, 0.1), HOLDS), ((0.0, 0.1, 0.5), PARTLY), ((0.0, 0.6, 0.6), FAILS)]
)
def test_windows(middle, word):
    runs = [record("prefix_24", 0, 0.0, 0.5, 0.5), record("window_72_96", 0, *middle)]
    assert later_windows_are_worse(Evidence.of(runs)).word == word


@pytest.mark.parametrize(("off", "on", "word"), [(0.1, 0.7, HOLDS), (0.1, 0.4, PARTLY), (0.7, 0.4, FAILS)])
def test_prefix_seqkd(off, on, word):
    runs = [record("prefix_24", 0, 0.4, on), record("prefix_seqkd", 0, 0.0, off)]
    assert prefix_seqkd_hurts(Evidence.of(runs)).word == word


def test_seconds_of_different_code_are_not_compared():
    full = record("full", 0, 0.0, 0.7, seconds=40.0)
    schedule = record("schedule", 0, 0.0, 0.7, flops=1.0, seconds=10.0)
    assert Evidence.of([full, schedule]).share_of_seconds("schedule") == 0.25
    assert schedule_matches_full(Evidence.of([full, schedule])).word == HOLDS
    later = Evidence.of([full, replace(schedule, commit="decaf")])
    assert later.share_of_seconds("schedule") is None
    found = schedule_matches_full(later)
    assert found.word == PARTLY and "seconds not comparable" in found.numbers
    assert Evidence.of([full]).share_of_seconds("full") == 1.0


@pytest.mark.parametrize(("end", "word"), [(0.72, HOLDS), (0.62, PARTLY), (0.5, FAILS)])
def test_one_step_early(end, word):
    """With 400 problems, 0.7 has the interval 0.653 to 0.743, and the interval of 0.62 ends at 0.666."""
    runs = [record("full", 0, 0.0, 0.7), record("one_step_early", 0, 0.0, end)]
    assert one_step_early_teaches_as_well(Evidence.of(runs)).word == word
    assert one_step_early_teaches_as_well(Evidence.of(runs[1:])).word == OPEN


def test_two_that_are_only_compared_at_the_end():
    for judge, arms in ((reverse_kl_is_stronger, ("prefix_24", "forward_kl_24")),
                        (high_learning_rate_hurts, ("schedule", "lr_1e-3"))):  # fmt: skip
        for ends, word in (((0.7, 0.3), HOLDS), ((0.70, 0.69), FAILS), ((0.3, 0.7), FAILS)):
            runs = [record(arm, 0, 0.0, end) for arm, end in zip(arms, ends, strict=True)]
            assert judge(Evidence.of(runs)).word == word
        assert judge(Evidence.of(runs[:1])).word == OPEN
