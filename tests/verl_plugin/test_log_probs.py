"""The replaced log-prob function against verl's own, and against numbers by hand."""

import importlib.util
import math

import pytest
import torch
from verl.utils import torch_functional

from prefix_opd.base.patching import is_replaced
from prefix_opd.verl_plugin.engine import log_probs

label_log_probs = log_probs.in_blocks(torch_functional.logprobs_from_logits_v2)


def test_by_hand():
    # softmax of (0, log 3) is (1/4, 3/4)
    logits = torch.tensor([[0.0, math.log(3)], [math.log(3), 0.0]])
    found = label_log_probs(logits, torch.tensor([1, 1]))
    assert found.tolist() == pytest.approx([math.log(3 / 4), math.log(1 / 4)])


@pytest.mark.parametrize("shape", [(7,), (3, 5)])
def test_value_and_gradient_are_those_of_log_softmax_whatever_the_block(shape, monkeypatch):
    torch.manual_seed(0)
    logits = torch.randn(*shape, 11, dtype=torch.float64, requires_grad=True)
    labels, weights = torch.randint(0, 11, shape), torch.randn(shape, dtype=torch.float64)
    wanted = logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    (gradient,) = torch.autograd.grad((wanted * weights).sum(), logits)
    for elements in (1, 22, 10**6):  # a row, two rows, all rows a block
        monkeypatch.setattr(log_probs, "ELEMENTS", elements)
        found = label_log_probs(logits, labels)
        (same,) = torch.autograd.grad((found * weights).sum(), logits)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(same, gradient)


@pytest.fixture(scope="module")
def verls_own():
    """verl's unpatched function, from its module under another name."""
    spec = importlib.util.spec_from_file_location("torch_functional_as_it_is", torch_functional.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.logprobs_from_logits_v2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(7,), (3, 5)])
def test_in_half_precision_value_and_gradient_are_verls_own_to_the_bit(shape, dtype, verls_own, monkeypatch):
    torch.manual_seed(0)
    logits = (20 * torch.randn(*shape, 1000)).to(dtype).requires_grad_()
    labels, weights = torch.randint(0, 1000, shape), torch.randn(shape).to(dtype)
    wanted = verls_own(logits, labels)
    (gradient,) = torch.autograd.grad((wanted * weights).sum(), logits)
    for elements in (1, 2000, 10**6):  # a row, two rows, all rows a block
        monkeypatch.setattr(log_probs, "ELEMENTS", elements)
        found = label_log_probs(logits, labels)
        (same,) = torch.autograd.grad((found * weights).sum(), logits)
        assert torch.equal(found, wanted)
        assert torch.equal(same, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_verl_uses_it(dtype, verls_own):
    assert is_replaced("verl.utils.torch_functional:logprobs_from_logits_v2")
    logits, labels = torch.randn(6, 9).to(dtype), torch.randint(0, 9, (6,))
    assert torch.equal(torch_functional.logprobs_from_logits(logits, labels), verls_own(logits, labels))


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match=r"logits \(2, 4\) and labels \(3,\)"):
        label_log_probs(torch.zeros(2, 4), torch.zeros(3, dtype=torch.long))
