"""The loss as verl runs it, against the reading copy and against verl's own k1 policy gradient."""

import pytest
import torch
from reading_copy import prefix_opd_loss
from tensordict import TensorDict
from verl.trainer.distillation.losses import distillation_ppo_loss
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass

from prefix_opd.config.compose import compose
from prefix_opd.config.settings import Settings
from prefix_opd.method.advantage import reverse_kl_advantage
from prefix_opd.method.objective import OBJECTIVES, PrefixOPD
from prefix_opd.verl_plugin.fields import SETTINGS

PROMPTS, LENGTHS, VOCABULARY = [2, 1, 3], [3, 1, 2], 7
BASE = ["experiment=tiny/full", "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum"]
CURRENT = ["prefix_opd.advantage.student_log_prob=current"]
K1 = ["distillation.distillation_loss.loss_mode=k1", "distillation.distillation_loss.use_policy_gradient=true"]


def configs(*overrides):
    """verl's dataclasses of actor and distillation, and our settings as the trainer sends them with a batch."""
    config = compose([*BASE, *overrides])
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    return actor, omega_conf_to_dataclass(config.distillation), Settings.from_node(config.prefix_opd)


def nested(rows):
    return torch.nested.as_nested_tensor([torch.as_tensor(row) for row in rows], layout=torch.jagged)


class Batch:
    """Three sequences under a policy whose only parameters are the logits of each position."""

    def __init__(self, off_policy: float = 0.0):
        torch.manual_seed(0)
        totals = [prompt + length for prompt, length in zip(PROMPTS, LENGTHS, strict=True)]
        self.tokens = [torch.randint(VOCABULARY, (total,)) for total in totals]
        self.logits = [torch.randn(total, VOCABULARY, requires_grad=True) for total in totals]
        # as verl's engine returns them: entry i scores token i + 1, the last entry is unused
        self.log_p = [
            logits.log_softmax(-1).gather(-1, tokens.roll(-1)[:, None])[:, 0]
            for logits, tokens in zip(self.logits, self.tokens, strict=True)
        ]
        responses = [p[prompt - 1 : -1] for p, prompt in zip(self.log_p, PROMPTS, strict=True)]
        self.rollout = [p.detach() + off_policy * torch.randn_like(p) for p in responses]
        self.teacher = [torch.cat([-3 * torch.rand(total - 1), torch.zeros(1)])[:, None] for total in totals]
        self.log_q = [t[prompt - 1 : -1, 0] for t, prompt in zip(self.teacher, PROMPTS, strict=True)]
        self.responses = responses

    def data(self):
        advantages = [reverse_kl_advantage(p, q) for p, q in zip(self.rollout, self.log_q, strict=True)]
        fields = dict(
            prompts=nested([t[:p] for t, p in zip(self.tokens, PROMPTS, strict=True)]),
            responses=nested([t[p:] for t, p in zip(self.tokens, PROMPTS, strict=True)]),
            response_mask=nested([torch.ones(n, dtype=torch.int64) for n in LENGTHS]),
            rollout_log_probs=nested(self.rollout),
            old_log_probs=nested(self.rollout),
            advantages=nested(advantages),
            teacher_logprobs=nested(self.teacher),
        )
        data = TensorDict(fields, batch_size=len(LENGTHS))
        tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=sum(LENGTHS), global_batch_size=len(LENGTHS))
        return data

    def loss_and_gradient(self, actor, distillation, settings, rows=slice(None)):
        """Loss and gradient; ``rows`` selects a micro-batch."""
        data = self.data()
        if rows != slice(None):
            data = tu.index_select_tensor_dict(data, list(range(len(LENGTHS)))[rows])
        tu.assign_non_tensor(data, **{SETTINGS: settings})
        loss, metrics = distillation_ppo_loss(actor, distillation, {"log_probs": nested(self.log_p[rows])}, data)
        gradients = torch.autograd.grad(loss, self.logits[rows], retain_graph=True)
        return loss.item(), torch.cat([g.flatten() for g in gradients]), metrics

    def reading_copy(self, **settings):
        pad = lambda rows: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # noqa: E731
        mask = pad([torch.ones(n) for n in LENGTHS])
        loss = prefix_opd_loss(pad(self.responses), pad(self.rollout), pad(self.log_q), mask, **settings)
        gradients = torch.autograd.grad(loss, self.logits, retain_graph=True)
        return loss.item(), torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("off_policy", [0.0, 0.3])
def test_verl_computes_the_reading_copy(off_policy):
    batch = Batch(off_policy)
    loss, gradient, _ = batch.loss_and_gradient(*configs())
    expected_loss, expected = batch.reading_copy()
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_truncated_ratio_and_clamp_reach_the_loss():
    batch = Batch(off_policy=1.0)
    loss, _, metrics = batch.loss_and_gradient(*configs("prefix_opd.loss.max_ratio=1.2"))
    assert loss == pytest.approx(batch.reading_copy(max_ratio=1.2)[0], rel=1e-5)
    assert 0 < metrics["prefix_opd/ratio/truncated_fraction"].aggregate() < 1
    assert loss != pytest.approx(batch.reading_copy()[0], rel=1e-3)


def test_same_gradient_as_verls_k1_policy_gradient_on_policy():
    """On policy, without clipping, with one mini-batch, verl's k1 loss and ours are equal."""
    batch = Batch()
    _, ours_gradient, _ = batch.loss_and_gradient(*configs())
    _, k1_gradient, _ = batch.loss_and_gradient(*configs(*K1))
    torch.testing.assert_close(ours_gradient, k1_gradient, rtol=1e-5, atol=1e-7)


def test_where_they_differ():
    """Off policy, verl's k1 advantage drifts with the updated policy, and PPO clips. Our advantage stays the sampler's.

    With student_log_prob=current and without PPO's clip the two agree again, which confirms the cause.
    """
    batch = Batch(off_policy=0.3)
    _, ours_gradient, _ = batch.loss_and_gradient(*configs())
    _, k1_gradient, _ = batch.loss_and_gradient(*configs(*K1))
    assert (ours_gradient - k1_gradient).abs().max() > 1e-2
    unclipped = [f"distillation.distillation_loss.{name}=1e6" for name in ("clip_ratio", "clip_ratio_high")]
    unclipped.append("distillation.distillation_loss.clip_ratio_low=1.0")
    current = configs(*CURRENT)
    _, current_gradient, _ = batch.loss_and_gradient(*current)
    _, k1_unclipped, _ = batch.loss_and_gradient(*configs(*K1, *unclipped))
    # PPO's dual clip (ratio <= 3 where the advantage is negative) cannot be set here; no ratio of this batch reaches it
    assert max((p - r).exp().max().item() for p, r in zip(batch.responses, batch.rollout, strict=True)) < 3
    torch.testing.assert_close(current_gradient, k1_unclipped, rtol=1e-5, atol=1e-7)


def test_window_weights_zero_the_tokens_outside():
    batch = Batch()
    window = ["prefix_opd.weighting.name=window", "prefix_opd.weighting.start=1", "prefix_opd.weighting.stop=2"]
    loss, gradient, _ = batch.loss_and_gradient(*configs(*window))
    # only the second response token of the sequences that have one
    expected = -sum((batch.log_q[i][1] - batch.rollout[i][1]).item() for i in (0, 2)) / 3
    assert loss == pytest.approx(expected, rel=1e-5)
    # the first sequence's logits that score its second response token: position prompt + 0 = 2
    by_position = gradient[: 5 * VOCABULARY].reshape(5, VOCABULARY).abs().sum(-1)
    assert by_position[2] > 0 and by_position[[0, 1, 3, 4]].max() == 0


def test_micro_batches_report_means_over_all_tokens():
    """Micro-batches of 3 + 1 and of 2 tokens: each gives its share of the mean, and their sum is the whole mean."""
    batch, found = Batch(off_policy=0.5), configs()
    whole = batch.loss_and_gradient(*found)
    parts = [batch.loss_and_gradient(*found, rows=rows) for rows in (slice(2), slice(2, None))]
    ratios = torch.cat([(p.detach() - r).exp() for p, r in zip(batch.responses, batch.rollout, strict=True)])
    for first, *others in ([whole[2]], [part[2] for part in parts]):
        for name, wanted in {"mean": ratios.mean(), "max": ratios.max()}.items():
            metric = first[f"prefix_opd/ratio/{name}"]
            metric.extend([other[f"prefix_opd/ratio/{name}"] for other in others])
            assert metric.aggregate() == pytest.approx(wanted.item(), rel=1e-5)
    assert sum(loss for loss, _, _ in parts) == pytest.approx(whole[0], rel=1e-5)
    torch.testing.assert_close(torch.cat([gradient for _, gradient, _ in parts]), whole[1], rtol=1e-5, atol=1e-7)


def test_an_advantage_of_ones_own_is_a_subclass():
    @OBJECTIVES.register("test-later-tokens")
    class LaterTokens(PrefixOPD):
        """Sums the teacher's log-ratio over a token and all tokens before it."""

        def advantage(self, log_p, log_q, mask):
            return (super().advantage(log_p, log_q, mask) * mask).cumsum(-1)

    batch = Batch()
    try:
        chosen = configs("distillation.distillation_loss.loss_mode=test-later-tokens", *CURRENT)
        loss, _, _ = batch.loss_and_gradient(*chosen)
    finally:
        del OBJECTIVES["test-later-tokens"]
    sums = [(q - p.detach()).cumsum(-1).sum() for p, q in zip(batch.responses, batch.log_q, strict=True)]
    # on policy the ratio is 1: minus the sum over a sequence, the mean over three
    assert loss == pytest.approx(-sum(sums).item() / 3, rel=1e-5)
