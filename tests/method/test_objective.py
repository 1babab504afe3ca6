"""What an objective needs, and the losses of ours by hand."""

import ast
from pathlib import Path

import pytest
import torch

from prefix_opd.base.errors import UserError
from prefix_opd.config.settings import Settings
from prefix_opd.method.objective import OBJECTIVES, Objective, PrefixOPD

PACKAGE = Path(__file__).parents[2]
LOG_P, LOG_Q = torch.tensor([[-1.0, -2.0, -0.5]]), torch.tensor([[-1.5, -0.5, -9.0]])
MASK = torch.ones(1, 3, dtype=torch.bool)


def test_the_papers_advantage_and_its_bound():
    # log q - log p: -1.5 + 1, -0.5 + 2, -9 + 0.5
    assert PrefixOPD().bounded_advantage(LOG_P, LOG_Q, MASK, None).tolist() == [[-0.5, 1.5, -8.5]]
    assert PrefixOPD().bounded_advantage(LOG_P, LOG_Q, MASK, 1.0).tolist() == [[-0.5, 1.0, -1.0]]


def test_the_papers_loss():
    # ratio exp(log_p - log_p_rollout): exp(0), exp(ln 2) = 2, exp(0); times -A and the weights 1, 1, 0
    rollout = LOG_P - torch.tensor([[0.0, 0.6931472, 0.0]])
    advantage, weights = torch.tensor([[-0.5, 1.5, -8.5]]), torch.tensor([[1.0, 1.0, 0.0]])
    torch.testing.assert_close(
        PrefixOPD().token_losses(LOG_P, rollout, advantage, weights), torch.tensor([[0.5, -3.0, 0.0]])
    )
    # the ratio 2 is truncated to 1.2: -1.2 * 1.5
    found = PrefixOPD(max_ratio=1.2).token_losses(LOG_P, rollout, advantage, None)
    torch.testing.assert_close(found, torch.tensor([[0.5, -1.8, 8.5]]))


@pytest.mark.parametrize("name", ["prefix_opd", "iw_opd", "prune_opd"])
@pytest.mark.parametrize("bound", [0.5, 1.0])
def test_a_bound_that_truncates_the_on_policy_ratio_is_refused(name, bound):
    """The ratio of a token is 1 on-policy. A truncated token has no gradient."""
    with pytest.raises(UserError, match=f"prefix_opd.loss.max_ratio={bound}: .*greater than 1"):
        Settings.from_node({"loss": {"name": name, "max_ratio": bound}})
    assert Settings.from_node({"loss": {"name": name, "max_ratio": 1.01}}).loss.max_ratio == 1.01


def test_the_shapes_must_be_one():
    with pytest.raises(ValueError, match=r"log_p \(1, 3\), log_q \(1, 2\), mask \(1, 3\) differ"):
        PrefixOPD().bounded_advantage(LOG_P, LOG_Q[:, :2], MASK, None)


@pytest.mark.parametrize(
    "name, topk, at_update, full_opd",
    [
        ("prefix_opd", False, False, True),
        ("k1", False, True, True),
        ("k2", False, True, True),
        ("mse", False, True, True),
        ("k3", False, True, False),
        ("low_var_kl", False, True, False),
        ("abs", False, True, False),
        ("forward_kl_topk", True, True, False),
        ("reverse_kl_topk", True, True, False),
        ("jsd_topk", True, True, False),
    ],
)
def test_what_each_needs(name, topk, at_update, full_opd):
    objective = OBJECTIVES.build({"name": name})
    assert (objective.needs_topk, objective.estimates_reverse_kl) == (topk, full_opd)
    assert objective.needs_teacher_at_update("sampler") == at_update
    assert objective.needs_teacher_at_update("current")


@pytest.mark.parametrize(
    ("name", "divergence"),
    [
        ("k1", lambda p, q: 0 * p.sum()),
        ("k2", lambda p, q: (p * (p / q).log()).sum()),
        ("k3", lambda p, q: (q * (q / p).log()).sum()),
        ("abs", lambda p, q: (p - q).abs().sum()),
    ],
)
def test_of_which_divergence_the_gradient_of_verls_estimator_is(name, divergence):
    """The exact mean over the sampled token, with a vocabulary of four. verl differentiates the estimator alone."""
    from verl.trainer.ppo.core_algos import kl_penalty

    logits = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    log_p = logits.log_softmax(-1)
    (found,) = torch.autograd.grad((log_p.exp().detach() * kl_penalty(log_p, q.log(), name)).sum(), logits)
    (exact,) = torch.autograd.grad(divergence(logits.softmax(-1), q), logits)
    torch.testing.assert_close(found, exact)


def test_every_loss_that_verl_offers_is_known():
    from verl.trainer.distillation.losses import DISTILLATION_SETTINGS_REGISTRY as THEIRS

    for name, settings in THEIRS.items():
        if name.startswith("test-"):  # another test's, of this process
            continue
        assert OBJECTIVES[name].needs_topk == settings.use_topk
    assert {name for name, objective in OBJECTIVES.items() if objective.is_verls} <= set(THEIRS)


def test_an_unknown_objective_is_told_by_the_key_that_names_it():
    with pytest.raises(
        UserError, match="distillation.distillation_loss.loss_mode=prefix_odp: is not one of .*'prefix_opd'"
    ):
        Settings.from_node({"loss": {"name": "prefix_odp"}})


def test_an_objective_that_reads_the_top_k_defines_a_divergence():
    with pytest.raises(TypeError, match="Greedy.needs_topk: define divergence"):

        class Greedy(Objective):
            needs_topk = True


PARTS = {"forward_kl_topk", "forward_kl", "_topk", "topk", "low_var_kl"}
"""Names of losses, and parts of them, without another meaning. Other loss names also occur in other lists."""


def asks_for_a_loss(node: ast.AST) -> bool:
    """Whether a comparison, or a call like ``mode.startswith("forward_kl")``, contains the name of a loss."""
    names = PARTS
    if isinstance(node, ast.Compare):
        parts = [node.left, *node.comparators]
        if isinstance(node.ops[0], ast.Eq | ast.NotEq):
            names = PARTS | set(OBJECTIVES)
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("startswith", "endswith", "find", "count"):
        parts = node.args
    else:
        return False
    constants = (one.value for part in parts for one in ast.walk(part) if isinstance(one, ast.Constant))
    return any(isinstance(value, str) and value in names for value in constants)


SOURCES = sorted(
    path for room in ("prefix_opd", "recipe", "reproduction", "benchmarks") for path in (PACKAGE / room).rglob("*.py")
)


def test_nobody_asks_for_a_loss_by_its_name():
    assert len(SOURCES) > 150
    found = {
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if asks_for_a_loss(node)
    }
    assert not found, "ask the objective what it needs: prefix_opd/method/objective.py"
    assert asks_for_a_loss(ast.parse("loss_mode == 'k1'").body[0].value)
    assert asks_for_a_loss(ast.parse("loss_mode.endswith('_topk')").body[0].value)
