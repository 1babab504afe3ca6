"""Settings that must fit the objective."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.together import LOSS, engine_keys
from prefix_opd.config.keys import LOSS_MODE_KEY
from prefix_opd.config.settings import Settings
from prefix_opd.method.objective import OBJECTIVES
from prefix_opd.method.weighting import Uniform


def check_probe(config: DictConfig, settings: Settings) -> None:
    """Reject a probe where the teacher scores its top tokens instead of the sampled ones. Raises UserError."""
    if settings.probe.every and settings.loss.needs_topk:
        mode = OmegaConf.select(config, LOSS_MODE_KEY)
        rule = f"needs the teacher's log-prob of each sampled token, but loss_mode={mode} requests its top tokens"
        raise UserError(f"prefix_opd.probe.every={settings.probe.every}", rule, "set prefix_opd.probe.every=0")


def check_needs(config: DictConfig, settings: Settings) -> None:
    """Reject a schedule that needs what the run does not have. Raises UserError."""
    steps, tested = config.trainer.total_training_steps, config.trainer.test_freq
    mode = f"{LOSS_MODE_KEY}={OmegaConf.select(config, LOSS_MODE_KEY)}"
    each, sampled = "set it to a number of updates", "teacher's log-probs of the sampled tokens"
    inside = f"{each} from 1 to {max(1, steps - 1)}"
    topk = f"set {LOSS_MODE_KEY}=reverse_kl_topk distillation.distillation_loss.topk=16 prefix_opd.probe.every=0"
    lacking = {
        "probe": (not settings.probe.every, "prefix_opd.probe.every=0", "probes", f"{each}, e.g. 10"),
        "validation": (not 0 < tested < steps, f"trainer.test_freq={tested}", "validations during training", inside),
        "scores": (settings.loss.needs_topk, mode, sampled, "take an objective of the sampled tokens"),
        "drift": (not settings.loss.reports_drift, mode, "record of drift", f"set {LOSS_MODE_KEY}=prune_opd"),
        "topk": (not settings.loss.needs_topk, mode, "teacher's top tokens", topk),
    }
    for need in sorted(settings.schedule.needs()):
        is_lacking, what, needed, fix = lacking[need]
        if is_lacking:
            name = f"prefix_opd.schedule.name={config.prefix_opd.schedule.name}"
            raise UserError(what, f"leaves {name} without the {needed} that it needs", fix)


def check_loss(config: DictConfig, settings: Settings) -> None:
    """Reject settings that the chosen objective would silently ignore."""
    loss, mode, lag = settings.loss, OmegaConf.select(config, LOSS_MODE_KEY), settings.rollout.off_policy_steps
    given = dict(OmegaConf.select(config, "prefix_opd.loss") or {})
    if (name := given.pop("name", None) or OBJECTIVES.default) != mode:
        raise UserError(f"prefix_opd.loss.name={name}", f"follows {LOSS_MODE_KEY}={mode}", f"set {LOSS_MODE_KEY}")
    if lag and not loss.has_ratio:
        rule = f"needs an importance ratio, and {LOSS_MODE_KEY}={mode} has none"
        raise UserError(f"prefix_opd.rollout.off_policy_steps={lag}", rule, "set prefix_opd.rollout.off_policy_steps=0")
    own = type(loss).model_fields
    ignored = [f"loss.{key}" for key, value in given.items() if value is not None and key not in own]
    if loss.is_verls and not isinstance(settings.weighting, Uniform):
        ignored.append("weighting.name")
    if not loss.has_ratio and settings.advantage.clamp is not None:
        ignored.append("advantage.clamp")
    if not loss.has_ratio and settings.advantage.student_log_prob != "sampler":
        ignored.append("advantage.student_log_prob")
    if ignored:
        rule = f"is not read by {LOSS_MODE_KEY}={mode}"
        raise UserError(f"prefix_opd.{ignored[0]}", rule, "leave it out, or take another loss")


def check_loss_settings(config: DictConfig, settings: Settings) -> None:
    """Reject settings that the chosen loss ignores or that invalidate it. Raises UserError."""
    loss, actor = config.distillation.distillation_loss, config.actor_rollout_ref.actor
    for name in ("loss_max_clamp", "log_prob_min_clamp"):
        if loss[name] is not None and not settings.loss.is_verls:
            rule = "would clamp advantages times a ratio, which are not divergences"
            fix = "leave it at null; prefix_opd.advantage.clamp bounds the advantage"
            raise UserError(f"{LOSS}.{name}={loss[name]}", rule, fix)
    for node in engine_keys(config)[1:]:
        most = OmegaConf.select(config, f"{node}.engine_kwargs.vllm.max_logprobs")
        if settings.loss.needs_topk and most is not None and most < loss.topk:
            rule = f"exceeds the teacher's engine_kwargs.vllm.max_logprobs={most}"
            raise UserError(f"{LOSS}.topk={loss.topk}", rule, "lower the one or raise the other")
    normalised = actor.loss_agg_mode == "seq-mean-token-sum-norm"
    if normalised and actor.loss_scale_factor is None:
        what = "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum-norm"
        rule = "divides by the longest response of each micro-batch, so the gradient depends on the micro-batches"
        raise UserError(what, rule, "set actor_rollout_ref.actor.loss_scale_factor, e.g. to data.max_response_length")
    if (factor := actor.loss_scale_factor) is not None and not normalised:
        rule = f"is read only with loss_agg_mode=seq-mean-token-sum-norm, and loss_agg_mode={actor.loss_agg_mode}"
        what = f"actor_rollout_ref.actor.loss_scale_factor={factor}"
        raise UserError(what, rule, "leave the one out or take the other")


def check_topk(config: DictConfig, settings: Settings, vocabulary: int) -> None:
    """Reject more tokens of the teacher than its vocabulary has. Raises UserError."""
    topk = config.distillation.distillation_loss.topk
    if settings.loss.needs_topk and topk > vocabulary:
        raise UserError(f"{LOSS}.topk={topk}", f"exceeds the vocabulary of {vocabulary} tokens", "lower it")
