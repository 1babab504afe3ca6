"""Register the loss with verl: ``distillation.distillation_loss.loss_mode=prefix_opd``.

verl calls a distillation loss for the (B, T) losses of the tokens, aggregates them by
``actor_rollout_ref.actor.loss_agg_mode`` and back-propagates the result as it is (``use_policy_gradient=False``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from verl.trainer.distillation.losses import (
    DISTILLATION_LOSS_REGISTRY,
    DistillationLossSettings,
    register_distillation_loss,
)
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import DistillationLossConfig
from verl.workers.utils.padding import no_padding_2_padding

from prefix_opd.config.settings import WeightingSettings
from prefix_opd.method.advantage import importance_ratio, reverse_kl_advantage
from prefix_opd.method.loss import token_losses
from prefix_opd.method.weighting import token_weights
from prefix_opd.verl_plugin.engine import micro_batches, update_tokens
from prefix_opd.verl_plugin.fields import plain

LOSS_MODE = "prefix_opd"


@dataclass
class PrefixOPDLossConfig(DistillationLossConfig):
    """verl's loss config with our settings, which the YAML fills in from the node ``prefix_opd``.

    Named as ``_target_`` of ``distillation.distillation_loss``: whichever process builds it imports this module,
    and so registers the loss, without a hook of its own.
    """

    student_log_prob: str = "sampler"
    clamp: float | None = None
    max_ratio: float | None = None
    weighting: dict[str, Any] = field(default_factory=dict)
    micro_batch_cost: int | None = None
    share_prompts: bool = False
    response_logits_only: bool = False

    def __post_init__(self):
        super().__post_init__()
        micro_batches.use(self.micro_batch_cost)
        update_tokens.use(self.response_logits_only, self.share_prompts)


def prefix_opd_token_losses(config, distillation_config, model_output, data) -> tuple[Tensor, dict[str, Any]]:
    """The adapter: verl's jagged fields in, (B, T) token losses and metrics out.

    ``advantages`` was written by the trainer from the sampler's (or recomputed) log-probs. With
    ``student_log_prob=current`` it is formed here, from the policy as it is at this mini-batch.
    """
    ours: PrefixOPDLossConfig = distillation_config.distillation_loss
    log_p = no_padding_2_padding(model_output["log_probs"], data)
    log_p_rollout = _padded(data["rollout_log_probs"]).to(log_p.dtype)
    mask = _padded(data["response_mask"]).bool()
    if ours.student_log_prob == "current":
        log_q = no_padding_2_padding(data["teacher_logprobs"], data).reshape(log_p.shape)
        advantage = reverse_kl_advantage(log_p.detach(), log_q.to(log_p.dtype), ours.clamp)
    else:
        advantage = _padded(data["advantages"]).to(log_p.dtype)

    weights = token_weights(mask.sum(-1), mask.shape[-1], WeightingSettings(**plain(ours.weighting)))
    losses = token_losses(log_p, log_p_rollout, advantage, weights, ours.max_ratio)
    # Padding holds log-prob differences of nothing; 0 * inf would be NaN when verl multiplies by its mask.
    losses = torch.where(mask, losses, torch.zeros_like(losses))
    return losses, _metrics(log_p.detach(), log_p_rollout, advantage, mask, ours, data)


def _metrics(log_p, log_p_rollout, advantage, mask, ours, data) -> dict[str, Any]:
    difference = (log_p - log_p_rollout)[mask]
    ratio = importance_ratio(log_p, log_p_rollout)[mask]
    # A share of the global token count from each micro-batch: their sum is a mean over all tokens, not a mean of
    # means. verl averages sums over data-parallel ranks, hence dp_size.
    share = data["dp_size"] / data["batch_num_tokens"]

    def mean(values: Tensor) -> Metric:
        return Metric(AggregationType.SUM, values.float().sum() * share)

    metrics = {
        "prefix_opd/ratio/mean": mean(ratio),
        "prefix_opd/ratio/max": Metric(AggregationType.MAX, ratio.max()),
        "prefix_opd/ratio/min": Metric(AggregationType.MIN, ratio.min()),
        "prefix_opd/log_prob_diff/mean": mean(difference),
        "prefix_opd/log_prob_diff/abs_mean": mean(difference.abs()),
        "prefix_opd/log_prob_diff/abs_max": Metric(AggregationType.MAX, difference.abs().max()),
    }
    if ours.max_ratio is not None:
        metrics["prefix_opd/ratio/truncated_fraction"] = mean(ratio > ours.max_ratio)
    if ours.clamp is not None:
        metrics["prefix_opd/advantage/clamped_fraction"] = mean(advantage[mask].abs() >= ours.clamp)
    return metrics


def _padded(tensor: Tensor) -> Tensor:
    return tensor.to_padded_tensor(0) if tensor.is_nested else tensor


if LOSS_MODE not in DISTILLATION_LOSS_REGISTRY:
    register_distillation_loss(DistillationLossSettings(names=LOSS_MODE, use_estimator=True))(prefix_opd_token_losses)
