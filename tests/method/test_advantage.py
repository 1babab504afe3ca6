"""Advantage, alignment and ratio, by hand."""

import math

import pytest
import torch

from prefix_opd.method.advantage import (
    at_students_positions,
    importance_ratio,
    reverse_kl_advantage,
    teacher_log_probs_of_response,
)


def test_advantage_is_teacher_minus_student():
    log_p = torch.tensor([-1.0, -0.5, -3.0], requires_grad=True)
    log_q = torch.tensor([-0.2, -2.5, -3.0])
    advantage = reverse_kl_advantage(log_p, log_q)
    torch.testing.assert_close(advantage, torch.tensor([0.8, -2.0, 0.0]))
    assert not advantage.requires_grad


def test_minus_its_mean_over_the_students_samples_is_the_reverse_kl():
    # p = (0.5, 0.5), q = (0.9, 0.1): KL(p || q) = 0.5 ln(0.5/0.9) + 0.5 ln(0.5/0.1) = 0.5108
    log_p, log_q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    expected = -(torch.tensor([0.5, 0.5]) * reverse_kl_advantage(log_p, log_q)).sum()
    assert expected.item() == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5.0), abs=1e-6)
    assert expected.item() == pytest.approx(0.5108, abs=1e-4)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        reverse_kl_advantage(torch.zeros(3), torch.zeros(2))


def test_alignment_with_three_tokens():
    # sequence a b | c: the teacher's entries are log q(b|a), log q(c|ab), dummy
    shifted = torch.tensor([-0.1, -0.7, 0.0])
    torch.testing.assert_close(teacher_log_probs_of_response(shifted, prompt_length=2), torch.tensor([-0.7]))
    # the same sequence with the prompt a alone: responses b c
    torch.testing.assert_close(teacher_log_probs_of_response(shifted, prompt_length=1), torch.tensor([-0.1, -0.7]))
    # verl keeps a trailing axis of size 1
    torch.testing.assert_close(teacher_log_probs_of_response(shifted[:, None], 2), torch.tensor([-0.7]))


@pytest.mark.parametrize("prompt_length", [0, 4])
def test_alignment_needs_a_prompt_inside_the_sequence(prompt_length):
    with pytest.raises(ValueError, match="does not fit"):
        teacher_log_probs_of_response(torch.zeros(3), prompt_length)


def test_ratio_and_its_truncation():
    current = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    rollout = torch.tensor([-1.0, -1.0, -1.5])
    torch.testing.assert_close(importance_ratio(current, rollout), torch.tensor([1.0, math.exp(-1), math.e]))
    truncated = importance_ratio(current, rollout, maximum=2.0)
    torch.testing.assert_close(truncated, torch.tensor([1.0, math.exp(-1), 2.0]))
    truncated.sum().backward()
    # d ratio / d log_p = ratio where it is not truncated, 0 where it is
    torch.testing.assert_close(current.grad, torch.tensor([1.0, math.exp(-1), 0.0]))


@pytest.mark.parametrize(
    ("teacher_prompt", "prompt", "scores", "moved"),
    [
        # the response has two tokens, scored -5 and -6; entries before them score the prompt, the last one is a dummy
        (3, 2, [-1, -2, -5, -6, 0], [0, -5, -6, 0]),  # the teacher's prompt is longer
        (1, 3, [-5, -6, 0], [0, 0, -5, -6, 0]),  # it is shorter
        (2, 2, [-1, -5, -6, 0], [0, -5, -6, 0]),
        (4, 1, [-1, -2, -3, -5, -6, 0], [-5, -6, 0]),
    ],
)
def test_scores_after_the_teachers_prompt_move_to_the_students_positions(teacher_prompt, prompt, scores, moved):
    scores = torch.tensor(scores, dtype=torch.float32)[:, None]
    found = at_students_positions(scores, teacher_prompt, prompt)
    assert found[:, 0].tolist() == moved
    # what every reader of a score does, with the student's prompt length
    assert teacher_log_probs_of_response(found, prompt).tolist() == [-5, -6]
    ids = at_students_positions(torch.cat([scores, scores - 10], 1).int(), teacher_prompt, prompt)
    assert ids.dtype == torch.int32 and ids[prompt - 1 : -1].tolist() == [[-5, -15], [-6, -16]]


@pytest.mark.parametrize(("teacher_prompt", "prompt", "entries"), [(0, 1, 3), (1, 0, 3), (4, 1, 3)])
def test_prompts_that_do_not_fit_the_scores_are_refused(teacher_prompt, prompt, entries):
    with pytest.raises(ValueError, match=f"prompts of {teacher_prompt} and {prompt} tokens do not fit {entries}"):
        at_students_positions(torch.zeros(entries, 1), teacher_prompt, prompt)
