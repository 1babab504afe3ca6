"""The top-k objectives through verl's own loss function: from a micro-batch's logits to loss and gradient."""

import pytest
import torch
from tensordict import TensorDict
from test_distillation import LENGTHS, PROMPTS, VOCABULARY, configs, nested
from verl.trainer.distillation import losses
from verl.utils import tensordict_utils as tu

from prefix_opd.method.divergence import generalized_jsd, kl
from prefix_opd.verl_plugin.engine.topk import by_the_objective
from prefix_opd.verl_plugin.fields import SETTINGS

MODE = "distillation.distillation_loss.loss_mode"
K = f"distillation.distillation_loss.topk={VOCABULARY}"


@pytest.fixture
def loss(monkeypatch):
    """``loss(student, teacher, *overrides)``: loss, the logits' gradient, and metrics, by verl's function."""
    monkeypatch.setattr(losses, "compute_topk_loss", by_the_objective(losses.compute_topk_loss))

    def run(student, teacher, *overrides):
        actor, distillation, settings = configs(*overrides)
        totals = [prompt + length for prompt, length in zip(PROMPTS, LENGTHS, strict=True)]
        log_q, ids = teacher.log_softmax(-1).topk(VOCABULARY)
        fields = dict(
            prompts=nested([torch.zeros(n, dtype=torch.int64) for n in PROMPTS]),
            responses=nested([torch.zeros(n, dtype=torch.int64) for n in LENGTHS]),
            response_mask=nested([torch.ones(n, dtype=torch.int64) for n in LENGTHS]),
            teacher_logprobs=nested(log_q.split(totals)),
            teacher_ids=nested(ids.int().split(totals)),
        )
        data = TensorDict(fields, batch_size=len(LENGTHS))
        tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=sum(LENGTHS), global_batch_size=len(LENGTHS))
        tu.assign_non_tensor(data, **{SETTINGS: settings})
        found = losses.distillation_ppo_loss(actor, distillation, data=data, student_logits=student[None])
        whole = {name: nested(values[0].split(totals)) for name, values in found.items()}
        value, metrics = losses.distillation_ppo_loss(actor, distillation, whole, data)
        (gradient,) = torch.autograd.grad(value, student)
        return value.item(), gradient, metrics

    return run


def predicting():
    """Indices of the positions that predict response tokens, sequence after sequence."""
    start, found = 0, []
    for prompt, length in zip(PROMPTS, LENGTHS, strict=True):
        found.append(torch.arange(length) + start + prompt - 1)
        start += prompt + length
    return found


@pytest.mark.parametrize(
    ("overrides", "divergence"),
    [
        ([f"{MODE}=reverse_kl_topk"], kl),
        ([f"{MODE}=jsd_topk", "prefix_opd.loss.beta=0.3"], lambda p, q: generalized_jsd(p, q, 0.3)),
    ],
)
def test_with_the_whole_vocabulary_it_is_the_exact_divergence(loss, overrides, divergence):
    torch.manual_seed(0)
    student = torch.randn(sum(PROMPTS) + sum(LENGTHS), VOCABULARY, requires_grad=True)
    teacher = torch.randn(len(student), VOCABULARY)
    value, gradient, metrics = loss(student, teacher, *overrides, K)
    each = divergence(student.log_softmax(-1), teacher.log_softmax(-1))
    # summed over a sequence, averaged over three
    exact = sum(each[positions].sum() for positions in predicting()) / 3
    assert value == pytest.approx(exact.item(), rel=1e-4)
    torch.testing.assert_close(gradient, torch.autograd.grad(exact, student)[0], rtol=1e-3, atol=1e-6)
    assert metrics["distillation/student_mass"].aggregate() == pytest.approx(1, rel=1e-5)


def test_weights_of_positions_count(loss):
    torch.manual_seed(0)
    student = torch.randn(sum(PROMPTS) + sum(LENGTHS), VOCABULARY, requires_grad=True)
    teacher = torch.randn(len(student), VOCABULARY)
    window = ["prefix_opd.weighting.name=window", "prefix_opd.weighting.start=1", "prefix_opd.weighting.stop=2"]
    value, gradient, _ = loss(student, teacher, f"{MODE}=reverse_kl_topk", K, *window)
    second = [int(positions[1]) for positions in predicting() if len(positions) > 1]
    each = kl(student.log_softmax(-1), teacher.log_softmax(-1))
    assert value == pytest.approx(each[second].sum().item() / 3, rel=1e-4)
    assert gradient.abs().sum(-1).nonzero()[:, 0].tolist() == second


def test_verls_forward_kl_is_left_to_verl(loss):
    torch.manual_seed(0)
    student = torch.randn(sum(PROMPTS) + sum(LENGTHS), VOCABULARY, requires_grad=True)
    teacher = torch.randn(len(student), VOCABULARY)
    value, _, metrics = loss(student, teacher, f"{MODE}=forward_kl_topk", K)
    each = kl(teacher.log_softmax(-1), student.log_softmax(-1))
    assert value == pytest.approx(sum(each[positions].sum() for positions in predicting()).item() / 3, rel=1e-4)
    assert "distillation/overlap_ratio" in metrics
