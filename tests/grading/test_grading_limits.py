"""A grader never hangs, whatever a model wrote and whichever thread asks."""

import multiprocessing
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings, strategies

from prefix_opd.base.errors import UserError
from prefix_opd.grading import GradeSettings, grade, pool
from prefix_opd.grading.choice import find_letter
from prefix_opd.grading.expression import canonical, number_of
from prefix_opd.grading.mathematics import find_answer
from prefix_opd.grading.text import answer_part, boxed

FAST = GradeSettings(time_limit_s=1.0)
TOWER = r"</think>\boxed{9^{9^{9^9}}}"


def test_a_tower_of_powers_is_killed_in_time_and_the_next_answer_is_graded():
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct  # the worker is up now
    started = time.monotonic()
    verdict = grade(TOWER, r"2\sqrt{2}", "math", FAST)
    assert time.monotonic() - started < pool.WALL_FACTOR
    assert (verdict.correct, verdict.extracted, verdict.reason) == (
        False,
        "9^{9^{9^9}}",
        "the comparison took longer than 1 s",
    )
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct


def test_a_tower_that_is_spelt_like_the_truth_needs_no_algebra():
    assert grade(TOWER, "9^{9^{9^9}}", "math", FAST).correct


def test_threads_share_the_workers_and_a_killed_one_harms_no_other():
    responses = [rf"</think>\boxed{{\sqrt{{{2 * n * n}}}}}" for n in range(1, 9)]
    responses.insert(3, TOWER)
    truths = [rf"{n}\sqrt{{2}}" for n in range(1, 9)]
    truths.insert(3, r"\sqrt{2}")
    with ThreadPoolExecutor(max_workers=6) as threads:
        verdicts = list(threads.map(lambda pair: grade(*pair, "math", FAST), zip(responses, truths, strict=True)))
    assert [verdict.correct for verdict in verdicts] == [True] * 3 + [False] + [True] * 5


def test_a_worker_that_was_ended_from_outside_is_replaced():
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct
    shared = pool.shared_pool(FAST.workers, int(FAST.memory_gib * 2**30))
    for worker in shared._idle:
        worker._process.kill()
        worker._process.wait()
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct


def test_a_worker_that_cannot_start_is_told_and_not_counted_as_a_wrong_answer():
    with pytest.raises(RuntimeError, match="the grading worker did not start"):
        grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", GradeSettings(memory_gib=0.01))


def _grade_in_a_fork(answers):
    answers.put(grade(r"</think>\boxed{\sqrt{18}}", r"3\sqrt{2}", "math", FAST).correct)


def test_a_fork_does_not_read_its_parents_replies():
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_grade_in_a_fork, args=(answers,))
    child.start()
    assert answers.get(timeout=60) is True
    child.join(timeout=60)
    assert child.exitcode == 0
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct


def test_a_program_without_a_main_guard_can_grade():
    code = "from prefix_opd.grading import grade\n"
    code += r"print(grade(r'</think>\boxed{\sqrt{8}}', r'2\sqrt{2}', 'math').correct)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 1500,
        "{" * 10_000,
        "answer is " * 1000,
        "answer" + " " * 9_990,
        "answer is" + "* _" * 3_000,
        "answer is \\text{" * 600,
        "$" * 10_000,
        "\\[" * 5_000,
        "(" * 10_000 + "C",
        "\\boxed{1}" + " " * 5_000 + "\\boxed{2}" + "," * 4_000,
        "9" * 10_000,
        "1,234," * 1_600,
        "\\boxed{" + "\\frac{" * 80 + "}",
    ],
)
def test_extraction_takes_no_time_whatever_the_text(text):
    started = time.process_time()
    find_answer(text)
    find_letter(text)
    boxed(text)
    answer_part(text, False)
    assert time.process_time() - started < 1.0


PIECES = r"\boxed{ } { $ \ : ( ) C A 12 , . % \text{ \frac 1/2 _ ^ and </think> − ٣ é ** \left( 1,234 = x"
TOKENS = [*PIECES.split(), "answer is", " ", "\n", "\ud800"]


@settings(max_examples=300, derandomize=True, deadline=None)
@given(strategies.lists(strategies.sampled_from(TOKENS), max_size=25).map("".join))
def test_no_text_breaks_the_extraction(text):
    answer, why_not = find_answer(text)
    assert bool(answer) != bool(why_not)
    assert find_letter(text) in {None, *"ABCDEFGHIJ"}
    number_of(canonical(text))


def test_grading_from_a_thread_that_is_not_the_main_one():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(grade(r"</think>\boxed{x+1}", "1+x", "math", FAST).correct), daemon=True
    )
    thread.start()
    thread.join(timeout=60)
    assert found == [True]


@pytest.mark.parametrize("setting", ["time_limit_s", "max_chars", "max_answer_chars", "workers", "memory_gib"])
def test_settings_must_be_positive(setting):
    with pytest.raises(UserError, match=f"{setting}=0: must be more than 0"):
        GradeSettings(**{setting: 0})


def test_bad_arguments_are_named():
    with pytest.raises(UserError, match="kind='maths': must be one of math, choice"):
        grade("</think>1", "1", "maths")
    with pytest.raises(UserError, match="nothing to compare with"):
        grade("</think>1", " ", "math")
