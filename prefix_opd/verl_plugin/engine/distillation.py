"""Adapter between verl's distillation loss and the objectives of `prefix_opd.method.objective`.

The loss function returns (B, T) token losses. verl aggregates them by ``actor_rollout_ref.actor.loss_agg_mode`` and
back-propagates the result unchanged (``use_policy_gradient=False``).
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
from verl.utils.tensordict_utils import get_non_tensor_data
from verl.workers.config import DistillationLossConfig
from verl.workers.utils.padding import no_padding_2_padding

from prefix_opd.config.plugins import import_plugins
from prefix_opd.config.settings import Settings
from prefix_opd.method.objective import OBJECTIVES
from prefix_opd.method.weighting import token_weights
from prefix_opd.verl_plugin.fields import SETTINGS


@dataclass
class PrefixOPDLossConfig(DistillationLossConfig):
    """The ``_target_`` of ``distillation.distillation_loss``.

    A process that builds this config imports this module and the plugins. So every objective is registered before verl
    looks up ``loss_mode``.
    """

    plugins: list[str] = field(default_factory=list)

    def __post_init__(self):
        import_plugins(list(self.plugins))
        register_objectives()
        super().__post_init__()


def register_objectives() -> None:
    """Register the objectives of this package with verl."""
    for name, objective in OBJECTIVES.items():
        if not objective.is_verls and name not in DISTILLATION_LOSS_REGISTRY:
            kind, losses = ("use_topk", topk_losses) if objective.needs_topk else ("use_estimator", token_losses)
            register_distillation_loss(DistillationLossSettings(names=name, **{kind: True}))(losses)


def token_losses(config, distillation_config, model_output, data) -> tuple[Tensor, dict[str, Any]]:
    """(B, T) token losses and metrics, from verl's jagged fields.

    The trainer computed ``advantages`` from the sampler's (or recomputed) log-probs. With ``student_log_prob=current``
    the advantage is computed here, from the current policy of this mini-batch.
    """
    ours: Settings = get_non_tensor_data(data, SETTINGS, default=None)
    log_p = no_padding_2_padding(model_output["log_probs"], data)
    log_p_rollout = _padded(data["rollout_log_probs"]).to(log_p.dtype)
    mask = _padded(data["response_mask"]).bool()
    if ours.advantage.student_log_prob == "current":
        log_q = no_padding_2_padding(data["teacher_logprobs"], data).reshape(log_p.shape).to(log_p.dtype)
        advantage = ours.loss.bounded_advantage(log_p.detach(), log_q, mask, ours.advantage.clamp)
    else:
        advantage = _padded(data["advantages"]).to(log_p.dtype)

    weights = token_weights(mask, ours.weighting)
    losses = ours.loss.token_losses(log_p, log_p_rollout, advantage, weights)
    # Losses of padding may be inf, and 0 * inf would be NaN when verl multiplies by its mask.
    losses = torch.where(mask, losses, torch.zeros_like(losses))
    return losses, _metrics(log_p.detach(), log_p_rollout, advantage, mask, ours, data)


def topk_losses(config, distillation_config, model_output, data) -> tuple[Tensor, dict[str, Any]]:
    """(B, T) divergences that `prefix_opd.verl_plugin.engine.topk` computed from the logits, weighted, and metrics."""
    ours: Settings = get_non_tensor_data(data, SETTINGS, default=None)
    mask = _padded(data["response_mask"]).bool()
    losses, student, teacher = (
        no_padding_2_padding(model_output[name], data)
        for name in ("distillation_losses", "student_mass", "teacher_mass")
    )
    weights = token_weights(mask, ours.weighting)
    losses = losses if weights is None else losses * weights
    share = data["dp_size"] / data["batch_num_tokens"]
    metrics = {
        f"distillation/{name}_mass": Metric(AggregationType.SUM, mass[mask].sum() * share)
        for name, mass in (("student", student), ("teacher", teacher))
    }
    return torch.where(mask, losses, torch.zeros_like(losses)), metrics


def _metrics(log_p, log_p_rollout, advantage, mask, ours: Settings, data) -> dict[str, Any]:
    difference = (log_p - log_p_rollout)[mask]
    ratio = difference.exp()
    # Each micro-batch divides by the mini-batch's token count: the sum over micro-batches is the mean over its tokens.
    # verl averages sums over data-parallel ranks, hence dp_size.
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
    if (max_ratio := getattr(ours.loss, "max_ratio", None)) is not None:
        metrics["prefix_opd/ratio/truncated_fraction"] = mean(ratio > max_ratio)
    if (clamp := ours.advantage.clamp) is not None:
        metrics["prefix_opd/advantage/clamped_fraction"] = mean(advantage[mask].abs() >= clamp)
    return metrics


def _padded(tensor: Tensor) -> Tensor:
    return tensor.to_padded_tensor(0) if tensor.is_nested else tensor
