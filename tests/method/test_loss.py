"""The loss against autograd on a REINFORCE gradient written out."""

import math

import pytest
import torch
from reading_copy import prefix_opd_loss

from prefix_opd.method.objective import PrefixOPD


def token_losses(log_p, log_p_rollout, advantage, weights=None):
    return PrefixOPD().token_losses(log_p, log_p_rollout, advantage, weights)


def test_three_tokens_by_hand():
    # ratios 1, e^-1, e^1; advantages 0.5, -2, 1; losses -1*0.5, +2/e, -e
    log_p = torch.tensor([[-1.0, -2.0, -0.5]])
    rollout = torch.tensor([[-1.0, -1.0, -1.5]])
    advantage = torch.tensor([[0.5, -2.0, 1.0]])
    expected = torch.tensor([[-0.5, 2 / math.e, -math.e]])
    torch.testing.assert_close(token_losses(log_p, rollout, advantage), expected)


def test_weights_multiply_the_loss_of_a_token():
    zeros, advantage = torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 3.0]])
    weighted = token_losses(zeros, zeros, advantage, weights=torch.tensor([[1.0, 0.0, 0.5]]))
    torch.testing.assert_close(weighted, torch.tensor([[-1.0, 0.0, -1.5]]))


def test_sequences_are_summed_and_then_averaged_over_their_number():
    # B = 2 with 3 and 1 tokens: (1 + 2 + 3 + 10) / 2, not / 4
    zeros = torch.zeros(2, 3)
    log_q = torch.tensor([[-1.0, -2.0, -3.0], [-10.0, -99.0, -99.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert prefix_opd_loss(zeros, zeros, log_q, mask).item() == pytest.approx(8.0)


def test_gradient_is_reinforce_written_out():
    """grad = -(1/B) sum_i sum_t A_t * d log p(x_t) / d theta, with d log softmax = one-hot - softmax."""
    torch.manual_seed(0)
    batch, tokens, vocabulary = 3, 4, 5
    logits = torch.randn(batch, tokens, vocabulary, dtype=torch.float64, requires_grad=True)
    sampled = torch.randint(vocabulary, (batch, tokens))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    log_q = -torch.rand(batch, tokens, dtype=torch.float64) * 3
    log_p = logits.log_softmax(-1).gather(-1, sampled[..., None])[..., 0]

    prefix_opd_loss(log_p, log_p.detach(), log_q, mask).backward()

    probabilities = logits.detach().softmax(-1)
    expected = torch.zeros_like(logits)
    for i in range(batch):
        for t in range(tokens):
            if mask[i, t]:
                advantage = log_q[i, t] - log_p[i, t].item()
                score = -probabilities[i, t]
                score[sampled[i, t]] += 1
                expected[i, t] = -advantage * score / batch
    torch.testing.assert_close(logits.grad, expected)


def test_its_expected_gradient_is_that_of_the_reverse_kl():
    """Summed over all tokens of one position with weights p, the gradient equals autograd on KL(p || q)."""
    torch.manual_seed(1)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    log_q = torch.randn(6, dtype=torch.float64).log_softmax(-1)
    log_p = logits.log_softmax(-1)
    exact = torch.autograd.grad((log_p.exp() * (log_p - log_q)).sum(), logits, retain_graph=True)[0]
    surrogate = (log_p.detach().exp() * token_losses(log_p, log_p.detach(), log_q - log_p.detach())).sum()
    torch.testing.assert_close(torch.autograd.grad(surrogate, logits)[0], exact)


def test_a_constant_ratio_scales_the_gradient():
    # off-policy by a factor 2: the importance weight is 2
    log_p = torch.tensor([[math.log(0.4)]], requires_grad=True)
    rollout = torch.tensor([[math.log(0.2)]])
    token_losses(log_p, rollout, torch.tensor([[3.0]])).sum().backward()
    assert log_p.grad.item() == pytest.approx(-6.0)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"advantage \(1, 2\).*\(1, 3\)"):
        token_losses(torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 2))
