"""The page and the pictures, from results written by hand; and the command line's refusals."""

import json

import pytest

from benchmarks.__main__ import RESULTS, main
from benchmarks.cases import FULL, GROUPS, LARGE, NATIVE, NATIVE_POLL, OURS, RECOMPUTED, Case
from benchmarks.plots import write_plots
from benchmarks.rows import measured_steps
from benchmarks.table import table
from benchmarks.verl_run import PHASES, REST

LADDER, LARGE_LADDER = GROUPS["saving"]
EARLY = next(case for case in GROUPS["early"] if case.early and case.model == LADDER.model)


def _step(step, cap, seconds, counts=True):
    phases = dict.fromkeys((*PHASES.values(), REST), 0.0)
    phases |= {"rollout and teacher": seconds / 2, "update": seconds / 2}
    return {
        "step": step,
        "cap": cap,
        "counts": counts,
        "seconds": seconds,
        "phases": phases,
        "tokens": 64 * cap,
        "sequences": 64,
        "flops": 1e9 * (18 + cap),
    }


def _result(case, steps, **more):
    return {
        "key": case.key(),
        "case": vars(case),
        "repetition": 1,
        "commit": "abc1234",
        "date": "2026-11-23T14:00:00+00:00",
        "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 24.0, "system": "Linux x86_64"},
        "versions": {"verl": "0.9.1"},
        "load": 0.5,
        "steps": steps,
        **more,
    }


def _ladder(case, fixed, slope):
    """Steps of ``fixed`` seconds plus ``slope`` seconds per token of the cap."""
    return _result(case, [_step(i, cap, fixed + slope * cap) for i, cap in enumerate(case.caps, start=1)])


def _results():
    native, plain = Case(NATIVE, (16,)), Case(OURS, (64,))
    gkd = next(
        case for case in GROUPS["trl"] if case.system == "trl_gkd" and (case.model, case.caps) == (LARGE, (FULL,))
    )
    found = [
        _ladder(LADDER, 1.0, 0.128),
        _ladder(LARGE_LADDER, 0.5, 0.25),
        _result(native, [_step(1, 16, 9.0, counts=False), *(_step(i, 16, float(2 * i)) for i in (2, 3, 4))]),
        _result(gkd, [_step(3, FULL, 97.0)], versions={"trl": "1.16.0"}),
        _result(plain, [_step(3, 64, 2.0)]),
        _result(Case(OURS, (64,), without=RECOMPUTED), [_step(3, 64, 2.5)]),
        # the last two steps at 16 sample 16 and, for the step after, 64; the last of all nothing
        _result(EARLY, [_step(13, 16, 1.524), _step(14, 16, 9.0), _step(EARLY.steps, FULL, 0.1)]),
    ]
    return json.loads(json.dumps(found))


def test_steps_that_do_not_count_are_left_out():
    steps = measured_steps(_results())
    assert [step["seconds"] for step in steps[Case(NATIVE, (16,)), 16]] == [4.0, 6.0, 8.0]


def test_the_page_says_medians_ratios_and_the_fit():
    page = table(_results(), GROUPS, {})
    assert "| tiny | 16 | ours | 3.048 (3.048–3.048) | 1.524 | 0.000 |" in page
    assert "| tiny | 16 | verl's own OPD, poll 2 s | 6.000 (5.000–7.000) | 3.000 |" in page
    assert "| tiny | 32 | ours |" not in page  # native verl has no such case
    # of 192: 3.048 / 25.576 of the seconds, 34 / 210 of the FLOP: 0.881 saved of 0.838
    assert "| tiny | 16 | 3.048 (3.048–3.048) | 0.12 | 0.16 | 1.05 |" in page
    assert "| tiny | 192 | 25.576 (25.576–25.576) | 1.00 | 1.00 | – |" in page
    # 0.128 s for 64 tokens is 2 s for a thousand; 1 s fixed is as much as 500 of them
    assert "1.00 s fixed + 2.000 s for each thousand response tokens (r² 1.00)" in page
    assert "even at 0.5 thousand response tokens" in page
    # a token of the cap is 1e9 FLOP: 128 s for 1e12; at no FLOP at all the line is 18 tokens below 1 s
    assert "-1.30 s fixed + 128.000 s for each TFLOP (r² 1.00)" in page
    assert "failed" not in page


def test_the_page_leads_with_the_same_poll():
    page = table(_results(), GROUPS, {})
    missing = "- Step time, ours / verl's own OPD, poll 0.05 s: not measured at this commit\n"
    default = "- Step time, ours / verl's own OPD, poll 2 s: 0.51 (tiny, cap 16)\n"  # 3.048 / 6
    assert missing + default in page
    fair = _result(Case(NATIVE_POLL, (16,)), [_step(3, 16, 4.0)])
    page = table(json.loads(json.dumps([*_results(), fair])), GROUPS, {})
    assert "- Step time, ours / verl's own OPD, poll 0.05 s: 0.76 (tiny, cap 16)\n" + default in page  # 3.048 / 4
    assert page.index("| verl's own OPD, poll 0.05 s | 4.000") < page.index("| verl's own OPD, poll 2 s | 6.000")


def test_the_page_says_where_ours_overtakes_trl():
    # 48.5 s against 97 s for as many sequences
    assert "by FLOP a step: 2.00 (6M, cap 192); ours is ahead in all of them" in table(_results(), GROUPS, {})


def test_the_page_says_what_a_saving_is_worth_and_what_ran():
    page = table(_results(), GROUPS, {})
    assert "| no old-log-prob pass | 64 | 2.500 (2.500–2.500) | 2.000 (2.000–2.000) | 0.80 |" in page
    assert "Runs of verl: verl 0.9.1.\nRuns of TRL: trl 1.16.0." in page
    assert "apart" not in page


def test_the_page_says_how_far_runs_of_a_case_differ():
    # steps of 2 s, then of 2, 3 and 9 s: 3 s is half as much again
    again = _result(Case(OURS, (64,)), [_step(3, 64, seconds) for seconds in (2.0, 3.0, 9.0)], repetition=2)
    assert "Runs of one case lay up to 50% apart" in table([*_results(), again], GROUPS, {})


def test_the_page_says_what_a_saving_is_worth_where_it_was_made_for():
    on = next(case for case in GROUPS["transport"] if not case.without)
    off = next(case for case in GROUPS["transport"] if case.without == "writes in groups")
    results = [_result(on, [_step(3, 4, 1.0), _step(4, 16, 2.0)]), _result(off, [_step(3, 4, 1.5), _step(4, 16, 2.0)])]
    page = table(json.loads(json.dumps(results)), GROUPS, {})
    start = "| writes in groups | tiny | short | 64 x 4 "
    assert start + "| 4 | 1.500 (1.500–1.500) | 1.000 (1.000–1.000) | 1.50 | 0.750 (0.750–0.750) | 0.500" in page
    assert start + "| 16 | 2.000 (2.000–2.000) | 2.000 (2.000–2.000) | 1.00 |" in page
    assert "## Aims" not in page  # nothing of theirs is measured


def test_the_page_says_what_one_step_early_is_worth():
    page = table(_results(), GROUPS, {})
    assert "| tiny | 16 | 3.048 (3.048–3.048) | 1.524 (1.524–1.524) | 0.50 |" in page
    assert "0.100" not in page and "9.000" not in page
    assert page.count("1.524 (1.524–1.524)") == 1  # and it stands beside nothing else


def test_the_page_says_when_processes_were_started():
    observed = GROUPS["processes"][0]
    engine = {"name": "EngineCore", "count": 2, "memory_mib": 700, "cpu_seconds": 9.0, "started": [11.5, 12.0]}
    more = {"start_up": {"start Ray": 20.0, "first step": 5.0}, "processes": [engine], "peak_memory_mib": 4096}
    page = table([*_results(), _result(observed, [], **more)], GROUPS, {})
    assert "| EngineCore | 2 | 11.5–12.0 | 700 | 9.0 |" in page
    assert "| Launch to the end of the first step in at most 100 s | 25.0 s | reached | – |" in page
    assert "| Peak memory at most 8 GiB | 4.0 GiB | reached | – |" in page


def test_how_often_cases_were_run():
    results = _results()
    assert " 1 repetition in turn." in table(results, GROUPS, {})
    assert " 1 to 2 repetitions in turn." in table([*results, {**results[0], "repetition": 2}], GROUPS, {})


def test_a_failed_run_is_told():
    failed = _result(Case("trl_gkd", (16,)), [], error="TRL could not be installed: no such wheel")
    del failed["steps"]
    assert "no such wheel" in table([*_results(), failed], GROUPS, {})


def test_pictures_of_what_is_measured(tmp_path):
    written = write_plots(_results(), GROUPS, tmp_path)
    assert {"native", "trl", "saving", "length"} <= written.keys()
    assert "rollouts" not in written
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.values())


def test_report_alone(tmp_path):
    (tmp_path / RESULTS).write_text("".join(json.dumps(result) + "\n" for result in _results()))
    assert main(["--report", "--out", str(tmp_path)]) == 0
    assert "![native](native.png)" in (tmp_path / "README.md").read_text()


def test_the_page_has_the_groups_that_were_not_asked_for(tmp_path):
    (tmp_path / RESULTS).write_text("".join(json.dumps(result) + "\n" for result in _results()))
    assert main(["--report", "--only", "rollouts", "--out", str(tmp_path)]) == 0
    assert "## Against verl's own" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "wrong, told",
    [
        (["--only", "speed"], "--only speed: is no group"),
        (["--models", "7B"], "--models 7B: is no model; known: tiny, "),
        (["--repetitions", "0"], "--repetitions 0: must be a whole number of at least 1"),
        (["--timeout", "-1"], "must be more than 0 seconds"),
        (["--quick"], "unrecognized arguments: --quick"),
    ],
)
def test_bad_settings_are_one_line_and_code_2(wrong, told, capsys):
    assert main(wrong) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
