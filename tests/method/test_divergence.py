"""Divergences over the teacher's top k and the rest, by hand and against the whole vocabulary."""

import math

import pytest
import torch

from prefix_opd.method.divergence import generalized_jsd, kl, log_probs_of, with_rest
from prefix_opd.method.objective import OBJECTIVES

V = 264
"""The miniature's vocabulary."""


def test_the_rest_is_one_event():
    # 0.5 and 0.3 leave 0.2
    found = with_rest(torch.tensor([0.5, 0.3]).log())
    torch.testing.assert_close(found.exp(), torch.tensor([0.5, 0.3, 0.2]))
    # rounding leaves less than nothing, which must not become a NaN
    assert with_rest(torch.tensor([0.7, 0.3000001]).log()).isfinite().all()


def test_by_hand():
    # p = (0.5, 0.3 | 0.2), q = (0.8, 0.1 | 0.1)
    log_p, log_q = (with_rest(torch.tensor(some).log()) for some in ([0.5, 0.3], [0.8, 0.1]))
    reverse = 0.5 * math.log(0.5 / 0.8) + 0.3 * math.log(0.3 / 0.1) + 0.2 * math.log(0.2 / 0.1)
    assert kl(log_p, log_q).item() == pytest.approx(reverse, rel=1e-5)
    # beta 0.25: m = 0.25 q + 0.75 p = (0.575, 0.25, 0.175)
    to_q = 0.8 * math.log(0.8 / 0.575) + 0.1 * math.log(0.1 / 0.25) + 0.1 * math.log(0.1 / 0.175)
    to_p = 0.5 * math.log(0.5 / 0.575) + 0.3 * math.log(0.3 / 0.25) + 0.2 * math.log(0.2 / 0.175)
    assert generalized_jsd(log_p, log_q, 0.25).item() == pytest.approx(0.25 * to_q + 0.75 * to_p, rel=1e-4)
    assert OBJECTIVES.build({"name": "reverse_kl_topk"}).divergence(log_p, log_q).item() == pytest.approx(reverse)
    halves = OBJECTIVES.build({"name": "jsd_topk", "beta": None}).divergence(log_p, log_q)
    torch.testing.assert_close(halves, generalized_jsd(log_p, log_q, 0.5))
    torch.testing.assert_close(halves, generalized_jsd(log_q, log_p, 0.5))  # symmetric at a half


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(5, V, requires_grad=True), 2 * torch.randn(5, V)


def full_jsd(log_p, log_q):
    log_m = ((log_p.exp() + log_q.exp()) / 2).log()
    each = (torch.nn.functional.kl_div(log_m, one, log_target=True, reduction="none") for one in (log_p, log_q))
    return 0.5 * sum(each).sum(-1)


FULL = {"reverse_kl_topk": lambda log_p, log_q: (log_p.exp() * (log_p - log_q)).sum(-1), "jsd_topk": full_jsd}


def over(name, student, teacher, k):
    log_q, ids = teacher.log_softmax(-1).topk(k)
    return OBJECTIVES.build({"name": name}).divergence(with_rest(log_probs_of(student, ids)), with_rest(log_q))


@pytest.mark.parametrize("name", FULL)
def test_at_k_equal_to_v_value_and_gradient_are_those_of_the_vocabulary(name, logits):
    student, teacher = logits
    full = FULL[name](student.log_softmax(-1), teacher.log_softmax(-1))
    found = over(name, student, teacher, V)
    torch.testing.assert_close(found, full, rtol=1e-4, atol=1e-5)
    (expected,), (gradient,) = (torch.autograd.grad(one.sum(), student, retain_graph=True) for one in (full, found))
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", FULL)
def test_fewer_tokens_give_a_lower_bound_that_grows(name, logits):
    values = [over(name, *logits, k) for k in (1, 2, 8, 64, V)]
    for smaller, larger in zip(values, values[1:], strict=False):
        assert (smaller >= 0).all() and (smaller <= larger + 1e-5).all()
    assert over(name, logits[1], logits[1], 8).abs().max() < 1e-6, "equal models differ nowhere"


@pytest.mark.parametrize("beta", [1e-4, 1 - 1e-4])
def test_the_ends_of_beta_are_the_two_kls(beta, logits):
    log_p, log_q = (one.detach().log_softmax(-1) for one in logits)
    found, limit = generalized_jsd(log_p, log_q, beta), kl(log_q, log_p) if beta < 0.5 else kl(log_p, log_q)
    torch.testing.assert_close(found / min(beta, 1 - beta), limit, rtol=0.02, atol=0)
