"""The checks of scores, on rows of two or three tokens whose figures are worked out by hand."""

import dataclasses

import numpy as np
import pytest

from prefix_opd.checks import signal
from prefix_opd.checks.engines import Scores
from prefix_opd.checks.finding import Status


def rows(*values):
    return [np.array(row) for row in values]


GOOD = Scores(
    student_tokens=[[5, 6, 9], [7, 8]],
    sampler=rows([-1.0, -2.0, -1.0], [-1.0, -1.0]),
    student_again=rows([-1.0, -2.0, -1.0], [-1.0, -1.0]),
    trainer=rows([-1.0, -2.0, -1.0], [-1.0, -1.0]),
    teacher=rows([-1.5, -2.5, -1.5], [-1.5, -1.5]),
    teacher_again=rows([-1.5, -2.5, -1.5], [-1.5, -1.5]),
    teacher_on_own=rows([-0.5, -0.5], [-0.5, -0.5]),
    student_on_teachers=rows([-1.5, -1.5], [-1.5, -1.6]),
    teacher_tokens=[[4, 9], [4, 8]],
    student_ends={9: "<end>"},
    stop_ids=frozenset({8, 9}),
    vocabulary=100,
    special_ids=frozenset({9}),
    exact=True,
)


def test_good_scores_pass_every_check():
    assert [check(GOOD).status for _, check in signal.CHECKS] == [Status.OK] * len(signal.CHECKS)


@pytest.mark.parametrize(
    ("check", "change", "status", "told"),
    [
        (
            signal.teacher_repeats_itself,
            {"teacher_again": rows([-1.5, -2.5, -1.5], [-1.5, -1.0])},  # 0.5 on one token of five
            Status.FAIL,
            "mean |difference| 0.1, max 0.5",
        ),
        # log 100 = 4.605 nats, of which 80% are 3.684
        (signal.teacher_knows_its_text, {"teacher_on_own": rows([-4.0, -4.0], [-4.0, -4.0])}, Status.FAIL, "4.61"),
        (signal.teacher_leads, {"student_on_teachers": rows([-0.1, -0.1], [-0.1, -0.2])}, Status.FAIL, "exchanged"),
        (signal.teacher_leads, {"student_on_teachers": rows([-0.5, -0.5], [-0.5, -0.5])}, Status.WARN, "0.000 ± 0.000"),
        (
            signal.student_agrees_with_itself,
            {"student_again": rows([-2.0, -2.0, -1.0], [-1.0, -1.0])},  # one nat on one token of five
            Status.FAIL,
            "reverse KL against itself 0.2",
        ),
        (
            signal.sampler_agrees_with_trainer,
            {"trainer": rows([-1.0, -2.0, -1.3], [-1.0, -1.0])},  # positions 0, 1, 2 of 3 fall into parts 0, 1, 2
            Status.FAIL,
            "by quarters of the positions 0, 0, 0.3",
        ),
        (
            signal.where_the_signal_sits,
            {"teacher": rows([-4.0, -2.5, -1.5], [-4.0, -1.5])},  # 3, .5, .5 and 3, .5: 6 of 7.5 on first tokens
            Status.WARN,
            "80.0% of it on first tokens, 6.7% on added tokens",
        ),
        (
            signal.where_the_signal_sits,
            {"teacher": rows([-1.5, -2.5, -5.0], [-1.5, -1.5])},  # .5, .5, 4 and .5, .5: 4 of 6 on token 9
            Status.WARN,
            "66.7% on added tokens",
        ),
    ],
)
def test_bad_scores_are_told(check, change, status, told):
    finding = check(dataclasses.replace(GOOD, **change))
    assert finding.status is status
    assert told in finding.reason + finding.remedy, finding


@pytest.mark.parametrize(
    ("texts", "status", "told"),
    [
        ([[4, 9], [4, 8]], Status.OK, "2 of the teacher's 2 texts ended, 1 hold <end> (9)"),
        ([[4, 8], [4, 4]], Status.WARN, "1 of the teacher's 2 texts ended, 0 hold <end> (9): the student's own end"),
        ([[4, 4], []], Status.OK, "0 of the teacher's 2 texts ended, 0 hold <end> (9): too short to tell"),
        ([[4, 9, 4], [5]], Status.OK, "0 of the teacher's 2 texts ended, 1 hold <end> (9)"),  # it did not stop them
    ],
)
def test_how_the_teachers_own_texts_end(texts, status, told):
    finding = signal.teacher_ends_as_the_student(dataclasses.replace(GOOD, teacher_tokens=texts))
    assert finding.status is status and told in finding.reason


def test_bf16_is_allowed_its_rounding():
    rounded = dataclasses.replace(GOOD, trainer=rows([-1.01, -2.0, -1.0], [-1.0, -1.0]))
    assert signal.sampler_agrees_with_trainer(rounded).status is Status.FAIL
    assert signal.sampler_agrees_with_trainer(dataclasses.replace(rounded, exact=False)).status is Status.OK
