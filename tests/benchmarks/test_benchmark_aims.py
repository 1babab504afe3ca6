"""Verdicts and the crossover, from results written by hand."""

import pytest

from benchmarks.aims import aims
from benchmarks.cases import LARGE, NATIVE, NATIVE_POLL, OURS, TINY, Case
from benchmarks.rows import crossover, leads
from benchmarks.verl_run import PHASES, REST
from benchmarks.words import crossover_words

GKD = "trl_gkd"


def _steps(case, seconds):
    """One step per cap that consists of the update only; each token of the cap is 1e9 FLOP."""
    idle = dict.fromkeys((*PHASES.values(), REST), 0.0)
    return {
        (case, cap): [
            {
                "seconds": second,
                "phases": idle | {"update": second},
                "tokens": 64 * cap,
                "sequences": 64,
                "flops": 1e9 * cap,
            }
        ]
        for cap, second in zip(case.caps, seconds, strict=True)
    }


def _aim(start, groups, steps):
    return next(aim for aim in aims(groups, steps, []) if aim.text.startswith(start))


def test_nothing_measured_is_no_verdict():
    assert {aim.verdict for aim in aims({}, {}, [])} == {"not measured"}


def test_an_aim_is_reached_at_every_cap_or_not():
    ours, caps = Case(OURS, (16, 64)), (16, 64)
    natives = [Case(NATIVE, (cap,)) for cap in caps]
    large = Case(OURS, (64,), model=LARGE), Case(NATIVE, (64,), model=LARGE)
    groups = {"native": (ours, *natives, *large)}
    steps = _steps(ours, (0.6, 0.8)) | _steps(natives[0], [1.0]) | _steps(natives[1], [1.0])
    steps |= _steps(large[0], [8.0]) | _steps(large[1], [10.0])
    tiny, dominated = aims(groups, steps, [])[2:4]
    assert (tiny.found, tiny.verdict) == ("0.60 (cap 16), 0.80 (cap 64)", "not reached")
    assert tiny.reason == "cap 64: verl's step takes 1.00 s: update 1.00; ours takes 0.80 s: update 0.80"
    assert (dominated.found, dominated.verdict, dominated.reason) == ("0.80 (cap 64)", "reached", "")


def test_the_same_poll_comes_first():
    cases = tuple(Case(system, (16,)) for system in (OURS, NATIVE_POLL, NATIVE))
    steps = _steps(cases[0], [0.6]) | _steps(cases[1], [0.8]) | _steps(cases[2], [2.4])
    fair, _, default, _ = aims({"native": cases}, steps, [])[:4]
    assert (fair.text, fair.found, fair.verdict) == (
        "Step on the miniature, same cap: at most 0.7 of verl's own OPD, poll 0.05 s",
        "0.75 (cap 16)",
        "not reached",
    )
    assert (default.found, default.verdict) == ("0.25 (cap 16)", "reached")


def test_a_cap_that_is_not_measured_yet_leaves_the_verdict_open():
    cases = Case(OURS, (16, 64)), Case(NATIVE, (16,)), Case(NATIVE, (64,))
    steps = _steps(cases[0], (0.5, 0.5)) | _steps(cases[1], [1.0])
    aim = aims({"native": cases}, steps, [])[2]
    assert (aim.found, aim.verdict) == ("0.50 (cap 16)", "measured in part")


@pytest.mark.parametrize("fixed, verdict", [(1.0, "reached"), (3.0, "not reached")])
def test_the_saving_is_realised_to_the_part_that_is_not_fixed(fixed, verdict):
    # 10 s a step at 100 tokens, of which 1 s or 3 s are fixed: 0.9 or 0.7 of what FLOP promise, whatever the prefix
    case = Case(OURS, (20, 50, 100), model=LARGE)
    steps = _steps(case, [fixed + (10 - fixed) * cap / 100 for cap in case.caps])
    aim = _aim("Share of seconds saved", {"saving": (case,)}, steps)
    share = f"{(10 - fixed) / 10:.2f}"
    assert (aim.found, aim.verdict) == (f"{share} (cap 20), {share} (cap 50)", verdict)


@pytest.mark.parametrize("seconds, verdict", [((1.0, 2.0, 4.0), "reached"), ((1.0, 2.0, 16.0), "not reached")])
def test_growth_is_linear_or_not(seconds, verdict):
    # 16 = 4 squared: through (1, 1), (2, 2), (4, 16) the best line leaves 0.07 of the variation
    case = Case(OURS, (1, 2, 4))
    assert _aim("Seconds of a step are linear", {"saving": (case,)}, _steps(case, seconds)).verdict == verdict


@pytest.mark.parametrize(
    "seconds, verdict, reason",
    [
        (1.04, "reached", ""),
        (1.2, "not reached", "quartiles 1.20 to 1.20 s against 1.00 to 1.00 s, of 1 and 1 steps"),
    ],
)
def test_the_configured_maximum_costs_nothing_or_something(seconds, verdict, reason):
    short, long = Case(OURS, (16,)), Case(OURS, (16,), longest=768)
    steps = _steps(short, [1.0]) | _steps(long, [seconds])
    aim = _aim("Step time with a 4 times longer", {"maximum": (short, long)}, steps)
    assert (aim.found, aim.verdict, aim.reason) == (f"{seconds:.2f} (768 against 192)", verdict, reason)


def _against_trl(*ratios):
    """Ours takes 1 s per step at caps 10, 100, ...; TRL takes ``ratios`` seconds."""
    caps = (10, 100, 190)[: len(ratios)]
    ours = Case(OURS, caps)
    trl = [Case(GKD, (cap,)) for cap in caps]
    steps = _steps(ours, [1.0] * len(caps))
    for case, ratio in zip(trl, ratios, strict=True):
        steps |= _steps(case, [ratio])
    return leads((ours, *trl), steps)


def test_the_crossover_lies_between_two_rows():
    # from 1/4 at 1e10 FLOP to 4 at 1e11: half-way on the logarithms
    found = _against_trl(0.25, 4.0)
    assert crossover(found) == pytest.approx(10**10.5)
    assert crossover_words(found) == (
        "Sequences a second, ours against TRL's fastest, by FLOP a step: 0.25 (tiny, cap 10), 4.00 (tiny, cap 100); "
        "ours stays ahead from 3.2e+10 FLOP a step on, between tiny, cap 10 and tiny, cap 100."
    )


@pytest.mark.parametrize(
    "ratios, told",
    [((2.0, 4.0), "crossover lies below"), ((0.2, 0.4), "crossover lies above"), ((0.2, 2.0, 0.4), "no one crossover")],
)
def test_no_crossover_is_told_as_what_it_is(ratios, told):
    found = _against_trl(*ratios)
    assert crossover(found) is None
    assert told in crossover_words(found)


def test_the_fastest_of_trl_counts():
    ours, fast, slow = (Case(system, (16,)) for system in (OURS, GKD, "trl_iw_opd"))
    steps = _steps(ours, [1.0]) | _steps(fast, [0.5]) | _steps(slow, [2.0])
    (lead,) = leads((ours, slow, fast), steps)
    assert (lead.ours.case.model, lead.fastest.case.system, lead.ratio) == (TINY, GKD, 0.5)


def test_where_trl_is_ahead_the_page_says_what_ours_spends():
    ours, trl = Case(OURS, (16,), model=LARGE), Case(GKD, (16,), model=LARGE)
    steps = _steps(ours, [2.0]) | _steps(trl, [1.0])
    phases = dict.fromkeys((*PHASES.values(), REST), 0.0) | {"rollout and teacher": 1.25, "update": 0.7, REST: 0.05}
    steps[ours, 16][0]["phases"] = phases
    aim = _aim("Sequences a second / TRL's", {"trl": (ours, trl)}, steps)
    assert (aim.found, aim.verdict) == ("0.50 (6M, cap 16)", "not reached")
    assert "a step of TRL takes 1.00 s" in aim.reason
    assert "ours takes 2.00 s: rollout and teacher 1.25, update 0.70, rest 0.05" in aim.reason
    assert not _aim("Sequences a second / TRL's", {"trl": (ours, trl)}, steps | _steps(trl, [3.0])).reason
