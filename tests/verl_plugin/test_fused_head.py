"""Log-probs by the fused head against log-softmax of whole logits, value and gradient."""

import math

import pytest
import torch
from torch import nn

from prefix_opd.verl_plugin.engine import fused_head
from prefix_opd.verl_plugin.engine.fused_head import label_log_probs

ROWS, WIDTH, VOCABULARY = 7, 6, 11


def test_by_hand():
    # the logits are (0, log 3): softmax (1/4, 3/4), and at temperature 2 (1, sqrt 3) / (1 + sqrt 3)
    hidden, weight = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [math.log(3)]])
    found = label_log_probs(hidden, weight, torch.tensor([1, 0]), torch.tensor([1.0, 2.0]), keep=True, compiled=False)
    assert found.tolist() == pytest.approx([math.log(3 / 4), -math.log(1 + math.sqrt(3))])


def test_top_k_by_hand():
    # logits 0, log 2, log 5: softmax (1, 2, 5) / 8. Upstream 1 on token 2 and 2 on token 0: onehot - 3 softmax
    weight = torch.tensor([[0.0], [math.log(2)], [math.log(5)]], dtype=torch.float64, requires_grad=True)
    found = label_log_probs(torch.ones(1, 1).double(), weight, torch.tensor([[2, 0]]), None, keep=True, compiled=False)
    assert found.tolist() == [pytest.approx([math.log(5 / 8), math.log(1 / 8)])]
    (gradient,) = torch.autograd.grad((found * torch.tensor([[1.0, 2.0]])).sum(), weight)
    assert gradient[:, 0].tolist() == pytest.approx([2 - 3 / 8, -6 / 8, 1 - 15 / 8])


def inputs(dtype):
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH).to(dtype).requires_grad_()
    weight = (3 * torch.randn(VOCABULARY, WIDTH)).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, VOCABULARY, (ROWS,)), torch.randn(ROWS)


def plain(hidden, weight, labels, temperatures):
    logits = (hidden @ weight.T).to(torch.promote_types(hidden.dtype, torch.float32))
    logits = logits if temperatures is None else logits / temperatures[:, None]
    return logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]


def gradients(log_probs, upstream, *leaves):
    return torch.autograd.grad((log_probs * upstream).sum(), leaves)


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_value_and_gradient_are_those_of_log_softmax(dtype, tolerance, cold, keep, chunk, monkeypatch):
    monkeypatch.setitem(fused_head.LOGITS, "cpu", chunk * VOCABULARY)
    hidden, weight, labels, upstream = inputs(dtype)
    temperatures = torch.linspace(0.5, 2, ROWS) if cold else None
    wanted = plain(hidden, weight, labels, temperatures)
    found = label_log_probs(hidden, weight, labels, temperatures, keep=keep, compiled=False)
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
    pairs = zip(gradients(found, upstream, hidden, weight), gradients(wanted, upstream, hidden, weight), strict=True)
    for one, other in pairs:
        assert (one - other).norm() / other.norm() < tolerance


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("cold", [True, False])
def test_of_the_teachers_top_k(cold, chunk, monkeypatch):
    monkeypatch.setitem(fused_head.LOGITS, "cpu", chunk * VOCABULARY)
    hidden, weight, _, _ = inputs(torch.float64)
    labels = torch.stack([torch.randperm(VOCABULARY)[:4] for _ in range(ROWS)])
    temperatures, upstream = torch.linspace(0.5, 2, ROWS) if cold else None, torch.randn(ROWS, 4)
    logits = hidden @ weight.T if temperatures is None else hidden @ weight.T / temperatures[:, None]
    wanted = logits.log_softmax(-1).gather(-1, labels)
    found = label_log_probs(hidden, weight, labels, temperatures, keep=True, compiled=False)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(*(gradients(each, upstream, hidden, weight) for each in (found, wanted)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("keep", [True, False])
def test_in_bf16_the_gradient_differs_by_rounding_alone(keep, monkeypatch):
    monkeypatch.setitem(fused_head.LOGITS, "cpu", 3 * VOCABULARY)
    hidden, weight, labels, upstream = inputs(torch.bfloat16)
    wanted = plain(hidden.double(), weight.double(), labels, None)
    found = label_log_probs(hidden, weight, labels, None, keep=keep, compiled=False)
    assert found.dtype == torch.float32
    for one, other in zip(
        gradients(found, upstream, hidden, weight), gradients(wanted, upstream, hidden, weight), strict=True
    ):
        assert one.dtype == torch.bfloat16
        assert (one - other).double().norm() / other.double().norm() < 2**-7  # bf16 keeps 8 bits


def test_under_autocast_fp32_weights_get_fp32_gradients_of_a_bf16_product():
    hidden, weight, labels, upstream = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = label_log_probs(hidden, weight, labels, None, keep=True, compiled=False)
        wanted = (hidden @ weight.T).float().log_softmax(-1).gather(-1, labels[:, None])[:, 0]
    torch.testing.assert_close(found, wanted)
    (gradient,) = gradients(found, upstream, weight)
    assert gradient.dtype == torch.float32


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, labels, upstream = inputs(torch.float64)
    weight.requires_grad_(False)
    (gradient,) = gradients(label_log_probs(hidden, weight, labels, None, True, False), upstream, hidden)
    (wanted,) = gradients(plain(hidden, weight, labels, None), upstream, hidden)
    torch.testing.assert_close(gradient, wanted)


def test_only_the_pass_that_was_asked_for_returns_log_probs():
    head = nn.Linear(WIDTH, VOCABULARY, bias=False)
    hidden = torch.randn(1, ROWS, WIDTH)
    logits = head(hidden)
    for _ in range(2):  # asked for again, nothing is wrapped twice
        cells, labels = torch.tensor([4, 2]), torch.tensor([3, 0])
        fused_head.ask(head, labels=labels, temperatures=None, keep=False, compiled=False, cells=cells)
        found = head(hidden)
        assert found.shape == (1, 2)
        torch.testing.assert_close(found[0], logits[0].log_softmax(-1)[cells, labels])
        torch.testing.assert_close(head(hidden), logits)
