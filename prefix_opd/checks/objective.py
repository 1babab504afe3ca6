"""Settings that must fit the objective."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.together import LOSS, engine_keys
from prefix_opd.config.keys import LOSS_MODE_KEY
from prefix_opd.config.settings import Settings
from prefix_opd.method.objective import OBJECTIVES
from prefix_opd.method.weighting import Uniform

NEEDED = {
    "probe": "probes",
    "validation": "validations during training",
    "scores": "teacher's log-probs of the sampled tokens",
    "drift": "record of drift",
}
"""`prefix_opd.method.schedule.Need` in words."""


def check_probe(config: DictConfig, settings: Settings) -> None:
    if settings.probe.every and settings.loss.needs_topk:
        raise UserError(
            f"prefix_opd.probe.every={settings.probe.every}",
            "needs the teacher's log-prob of each sampled token, and "
            f"loss_mode={OmegaConf.select(config, LOSS_MODE_KEY)} asks for its top tokens",
            "set prefix_opd.probe.every=0",
        )


def check_needs(config: DictConfig, settings: Settings) -> None:
    """Reject a schedule whose signals the run does not have. Raises UserError."""
    trainer, mode = config.trainer, OmegaConf.select(config, LOSS_MODE_KEY)
    steps = trainer.total_training_steps
    lacking = {
        "probe": (not settings.probe.every, "prefix_opd.probe.every=0", "set it to a number of updates, e.g. 10"),
        "validation": (
            not 0 < trainer.test_freq < steps,
            f"trainer.test_freq={trainer.test_freq}",
            f"set it to a number of updates from 1 to {max(1, steps - 1)}",
        ),
        "scores": (settings.loss.needs_topk, f"{LOSS_MODE_KEY}={mode}", "take an objective of the sampled tokens"),
        "drift": (not settings.loss.reports_drift, f"{LOSS_MODE_KEY}={mode}", f"set {LOSS_MODE_KEY}=prune_opd"),
    }
    for need in sorted(settings.schedule.needs()):
        is_lacking, what, fix = lacking[need]
        if is_lacking:
            name = f"prefix_opd.schedule.name={config.prefix_opd.schedule.name}"
            raise UserError(what, f"leaves {name} without the {NEEDED[need]} that it observes", fix)


def check_loss(config: DictConfig, settings: Settings) -> None:
    """Reject settings that the chosen objective would silently ignore."""
    mode = OmegaConf.select(config, LOSS_MODE_KEY)
    if (given := OmegaConf.select(config, "prefix_opd.loss.name") or OBJECTIVES.default) != mode:
        raise UserError(f"prefix_opd.loss.name={given}", f"follows {LOSS_MODE_KEY}={mode}", f"set {LOSS_MODE_KEY}")
    if not settings.loss.has_ratio and settings.rollout.off_policy_steps:
        raise UserError(
            f"prefix_opd.rollout.off_policy_steps={settings.rollout.off_policy_steps}",
            f"needs an importance ratio, and {LOSS_MODE_KEY}={mode} has none",
            "set prefix_opd.rollout.off_policy_steps=0",
        )
    own = type(settings.loss).model_fields
    node = {key: value for key, value in (OmegaConf.select(config, "prefix_opd.loss") or {}).items() if key != "name"}
    ignored = [f"loss.{key}" for key, value in node.items() if value is not None and key not in own]
    if settings.loss.is_verls:
        ignored += [] if isinstance(settings.weighting, Uniform) else ["weighting.name"]
    if not settings.loss.has_ratio:
        ignored += [] if settings.advantage.clamp is None else ["advantage.clamp"]
    if ignored:
        raise UserError(
            f"prefix_opd.{ignored[0]}", f"is not read by {LOSS_MODE_KEY}={mode}", "leave the one out or take another"
        )


def check_loss_settings(config: DictConfig, settings: Settings) -> None:
    """Reject settings that the chosen loss ignores or that invalidate it. Raises UserError."""
    loss = config.distillation.distillation_loss
    if not settings.loss.is_verls:
        for name in ("loss_max_clamp", "log_prob_min_clamp"):
            if loss[name] is not None:
                raise UserError(
                    f"{LOSS}.{name}={loss[name]}",
                    "would clamp advantages times a ratio, which are no divergences",
                    "leave it at null; prefix_opd.advantage.clamp bounds the advantage",
                )
    for node in engine_keys(config)[1:]:
        most = OmegaConf.select(config, f"{node}.engine_kwargs.vllm.max_logprobs")
        if settings.loss.needs_topk and most is not None and most < loss.topk:
            rule = f"exceeds the teacher's engine_kwargs.vllm.max_logprobs={most}"
            raise UserError(f"{LOSS}.topk={loss.topk}", rule)
    actor = config.actor_rollout_ref.actor
    if actor.loss_scale_factor is not None and actor.loss_agg_mode != "seq-mean-token-sum-norm":
        raise UserError(
            f"actor_rollout_ref.actor.loss_scale_factor={actor.loss_scale_factor}",
            f"is read with loss_agg_mode=seq-mean-token-sum-norm alone, and loss_agg_mode={actor.loss_agg_mode}",
            "leave the one out or take the other",
        )


def check_topk(config: DictConfig, settings: Settings, vocabulary: int) -> None:
    """Reject more tokens of the teacher than its vocabulary has. Raises UserError."""
    topk = config.distillation.distillation_loss.topk
    if settings.loss.needs_topk and topk > vocabulary:
        raise UserError(f"{LOSS}.topk={topk}", f"exceeds the vocabulary of {vocabulary} tokens", "lower it")
