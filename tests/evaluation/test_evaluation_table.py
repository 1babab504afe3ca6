import pytest

from prefix_opd.evaluation.table import render, tabulate


def response(problem, score, pred, length=10, natural=True, graded_by="math"):
    return {
        "problem": problem,
        "score": score,
        "pred": pred,
        "graded_by": graded_by,
        "response_length": length,
        "natural_end": natural,
        "cut": not natural,
    }


# problem 0: right, wrong (votes 7 and 8 tie: half); problem 1: right twice; problem 2: never right, no answer to vote
RESPONSES = [
    response(0, 1.0, "7"),
    response(1, 1.0, "3", length=20),
    response(2, 0.0, "", length=40, natural=False),
    response(0, 0.0, "8"),
    response(1, 1.0, "3", length=20),
    response(2, 0.0, None, length=40, natural=False, graded_by="none"),
]


def test_figures_worked_by_hand():
    row = tabulate(RESPONSES, 2)
    assert (row.problems, row.k) == (3, 2)
    assert row.mean == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert row.pass_at_k == pytest.approx(2 / 3)
    assert row.maj_at_k == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert row.natural_end == pytest.approx(4 / 6) and row.cut == pytest.approx(2 / 6)
    assert row.mean_length == pytest.approx((10 + 10 + 20 + 20 + 40 + 40) / 6)
    assert row.ungraded == 1
    # three problems with means 1/2, 1, 0: a resample is all 0 or all 1 once in 27, more often than 2.5%
    assert row.interval == (0.0, 1.0)


def test_the_interval_of_single_answers_is_wilsons():
    wrong = [response(problem, 0.0, "1") for problem in range(30)]
    # z^2 / (n + z^2) with z = 1.96; a bound of -1e-17 would be shown as -0.0
    assert tabulate(wrong, 1).interval == (0.0, pytest.approx(3.8416 / 33.8416))
    right = [response(problem, 1.0, "1") for problem in range(30)]
    assert tabulate(right, 1).interval == (pytest.approx(30 / 33.8416), pytest.approx(1))
    # half right of 100: 0.5 -+ 1.96 sqrt(0.25 / 100 + 3.8416 / 40000) / 1.038416
    half = [response(problem, float(problem % 2), "1") for problem in range(100)]
    assert tabulate(half, 1).interval == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))


@pytest.mark.parametrize(("score", "ends"), [(0.0, (0.0, 3.8416 / 33.8416)), (1.0, (30 / 33.8416, 1.0))])
def test_answers_that_are_all_alike_have_wilsons_interval_over_the_problems(score, ends):
    """30 problems x 16: a bootstrap would say 0 to 0, or 1 to 1."""
    alike = [response(problem, score, "1") for problem in range(30) for _ in range(16)]
    assert tabulate(alike, 16).interval == pytest.approx(ends)


def test_a_reason_that_all_graded_responses_share_is_told():
    refused = [{**one, "reason": "no option was named"} for one in RESPONSES]
    told = "all 5 answers were rejected for the same reason: no option was named"
    assert tabulate(refused, 2).rejected == told
    endless = [{**one, "reason": "the thinking did not end"} for one in RESPONSES]
    assert "; raise --max-tokens, or set prefix_opd.prompt.thinking=off" in tabulate(endless, 2).rejected
    assert tabulate([*refused[:-1], {**refused[-1], "graded_by": "math", "reason": "equal"}], 2).rejected is None
    assert tabulate(RESPONSES, 2).rejected is None, "responses of earlier versions have no reason"


def test_the_order_of_the_responses_does_not_matter():
    assert tabulate(RESPONSES[::-1], 2) == tabulate(RESPONSES, 2)


def test_a_problem_short_of_a_sample_is_no_table():
    with pytest.raises(ValueError, match="problem 2 has 1 responses, not k=2"):
        tabulate(RESPONSES[:-1], 2)
    with pytest.raises(ValueError, match="no responses"):
        tabulate([], 2)


def test_the_table_fits_a_terminal():
    from rich.console import Console

    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render("a run", {"gpqa-diamond": tabulate(RESPONSES, 2)}))
    line = next(line for line in console.export_text().splitlines() if "gpqa-diamond" in line)
    assert line.split() == [
        "gpqa-diamond",
        "3",
        "x",
        "2",
        "50.0",
        "0.0",
        "to",
        "100.0",
        "66.7",
        "50.0",
        "66.7",
        "33.3",
        "23",
    ]
