"""The page and the pictures, from results written by hand; and the command line's refusals."""

import json

import pytest

from benchmarks.__main__ import RESULTS, main
from benchmarks.cases import GROUPS, NATIVE, OURS, Case
from benchmarks.plots import write_plots
from benchmarks.table import measured_steps, table


def _step(step, cap, seconds, counts=True):
    phases = {"rollout and teacher": seconds / 2, "update": seconds / 2}
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


def _results():
    ours, native = Case(OURS, (16,)), Case(NATIVE, (16,))
    saving = GROUPS["saving"][0]
    found = [
        _result(ours, [_step(1, 16, 9.0, counts=False), *(_step(i, 16, float(i)) for i in (2, 3, 4))]),
        _result(native, [_step(i, 16, float(2 * i)) for i in (2, 3, 4)]),
        # 1 s fixed and 0.128 s for each token of the cap
        _result(saving, [_step(i, cap, 1 + 0.128 * cap) for i, cap in enumerate(saving.caps, start=1)]),
    ]
    return json.loads(json.dumps(found))


def test_steps_that_do_not_count_are_left_out():
    steps = measured_steps(_results())
    assert [step["seconds"] for step in steps[Case(OURS, (16,)), 16]] == [2.0, 3.0, 4.0]


def test_the_page_says_medians_ratios_and_the_fit():
    page = table(_results(), GROUPS, {})
    assert "| 16 | ours | 3.000 (2.500–3.500) | 1.500 | 1.500 |" in page
    assert "| 16 | verl's own OPD | 6.000 (5.000–7.000) |" in page
    # of 192: 3.048 / 25.576 of the seconds, 34 / 210 of the FLOP
    assert "| 16 | 3.048 (3.048–3.048) | 0.12 | 0.16 |" in page
    # 0.128 s for 64 tokens is 2 s for 1000; 1 s fixed is as much as 500 of them
    assert "1.00 s fixed + 2.000 s for each 1000 response tokens (r² 1.00)" in page
    assert "even at 0.5 1000 response tokens" in page
    assert "failed" not in page


def test_a_failed_run_is_told():
    failed = _result(Case("trl_gkd", (16,)), [], error="TRL could not be installed: no such wheel")
    del failed["steps"]
    assert "no such wheel" in table([*_results(), failed], GROUPS, {})


def test_pictures_of_what_is_measured(tmp_path):
    written = write_plots(_results(), GROUPS, tmp_path)
    assert {"native", "saving"} <= written.keys()
    assert "length" not in written
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.values())


def test_report_alone(tmp_path):
    (tmp_path / RESULTS).write_text("".join(json.dumps(result) + "\n" for result in _results()))
    assert main(["--report", "--out", str(tmp_path)]) == 0
    assert "![native](native.png)" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "wrong, told",
    [
        (["--only", "speed"], "--only speed: is no group"),
        (["--repetitions", "0"], "must be at least 1"),
        (["--timeout", "-1"], "must be more than 0 seconds"),
        (["--quick"], "unrecognized arguments: --quick"),
    ],
)
def test_bad_settings_are_one_line_and_code_2(wrong, told, capsys):
    assert main(wrong) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1
