"""A grader never hangs, whatever a model wrote and whichever thread asks.

Nothing here expects speed of the machine: limits count processor time, waits end with the pool's own limits.
"""

import multiprocessing
import os
import signal
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
from prefix_opd.grading.mathematics import equal, find_answer
from prefix_opd.grading.reward import settings_from
from prefix_opd.grading.text import answer_part, boxed

FAST = GradeSettings(time_limit_s=1.0)
TOWER = r"</think>\boxed{9^{9^{9^9}}}"


def workers(settings):
    return pool.shared_pool(settings.workers, int(settings.memory_gib * 2**30))._idle


def test_a_tower_of_powers_is_killed_and_the_next_answer_is_graded():
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct  # the worker is up now
    busy = workers(FAST)[-1]
    verdict = grade(TOWER, r"2\sqrt{2}", "math", FAST)
    assert (verdict.correct, verdict.extracted, verdict.reason) == (
        False,
        "9^{9^{9^9}}",
        "the comparison took longer than 1 s",
    )
    # by its own limit of processor time, which no load can lengthen
    assert busy._process.returncode == -signal.SIGPROF and busy not in workers(FAST)
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct


def test_a_worker_that_waits_is_killed_by_the_clock():
    brief = GradeSettings(time_limit_s=0.1, workers=1)
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", GradeSettings(workers=1)).correct
    stopped = workers(brief)[-1]
    os.kill(stopped._process.pid, signal.SIGSTOP)
    started = time.monotonic()
    verdict = grade(r"</think>\boxed{\sqrt{18}}", r"3\sqrt{2}", "math", brief)
    assert verdict.reason == "the comparison took longer than 0.1 s"
    assert time.monotonic() - started >= brief.time_limit_s * pool.WALL_FACTOR, "a busy machine gets its time"
    assert stopped._process.returncode == -signal.SIGKILL


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
    for worker in workers(FAST):
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
    assert answers.get(timeout=2 * pool.START_LIMIT_S) is True
    child.join(timeout=pool.START_LIMIT_S)
    assert child.exitcode == 0
    assert grade(r"</think>\boxed{\sqrt{8}}", r"2\sqrt{2}", "math", FAST).correct


def test_a_program_without_a_main_guard_can_grade():
    code = "from prefix_opd.grading import grade\n"
    code += r"print(grade(r'</think>\boxed{\sqrt{8}}', r'2\sqrt{2}', 'math').correct)"
    limit = 2 * pool.START_LIMIT_S
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=limit, check=True)
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
        "<answer>" * 1_200,
        "<answer></answer>" * 600,
        "<b " * 3_000,
        "*_" * 5_000,
        "The answer is C is " * 500,
        "The answer is 4 " + "as we " * 1_500,
        "1 " + "\\text{a}" * 1_000,
        "\\boxed{1 " + "\\text{a}" * 60 + "$}",
        "\\boxed{" + "(" * 240 + ")" * 240 + "}",
        "\\boxed{2 " + "abc " * 120 + "!}",
        "= " * 5_000,
        "$a$, " * 2_000,
        "if C is correct " * 600,
        "So we have " * 900 + "5.",
        "So 5. " * 1_600,
        "x = 2, " * 1_400,
        "<answer>" + "x = 2\n" * 1_600 + "</answer>",
        "'answer': [" * 900,
        "√(" * 4_000,
        "minus " * 1_600 + "5",
        "\\boxed{twenty-" + "twenty-" * 60 + "}",
        "\\boxed{\\frac{" + "\\frac{1}" * 50 + "}",
        "the sum is " * 900 + "5",
        "</s>" * 2_500,
        "So there are 42" + " the" * 60 + " th",
        "So there are 42" + " are" * 60 + " x.y",
        "The answer is " + "\\text{cm} " * 999,
        "the sum \\(a\\)" + "\\(5\\)" * 60 + " 7",
        '"answer":' + " " * 9_000,
        "答案" + " " * 9_000,
    ],
)
def test_extraction_takes_no_time_whatever_the_text(text):
    started = time.process_time()
    answer, _ = find_answer(text)
    canonical(answer[:500])
    equal(answer[:500], "42 cm", lambda *_: False)
    find_letter(text)
    boxed(text)
    answer_part(text, False)
    assert time.process_time() - started < 1.0


PIECES = r"\boxed{ } { $ \ : ( ) C A 12 , . % \text{ \frac 1/2 _ ^ and </think> − ٣ é ** \left( 1,234 = x"
PIECES += r" ½ ² √ cm [ ° e3 \pm"
TOKENS = [*PIECES.split(), "answer is", "<answer>", "</answer>", r"0.\overline{3}", " ", "\n", "\ud800"]


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
    thread.join(timeout=2 * pool.START_LIMIT_S)
    assert found == [True]


@pytest.mark.parametrize("setting", ["time_limit_s", "max_chars", "max_answer_chars", "workers", "memory_gib"])
def test_settings_must_be_positive(setting):
    with pytest.raises(UserError, match=f"reward_kwargs.{setting}=0: input should be greater than"):
        settings_from({setting: 0})


def test_bad_arguments_are_named():
    with pytest.raises(UserError, match="kind='maths': must be one of math, choice"):
        grade("</think>1", "1", "maths")
    with pytest.raises(UserError, match="ground_truth='': must not be empty"):
        grade("</think>1", " ", "math")
