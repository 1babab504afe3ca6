"""Every setting of ours: the node ``prefix_opd`` of the composed config, checked when it is built.

Settings of verl stay where verl has them. A value that cannot be meant (a length of 0, an unknown name) cannot be
built; what depends on the models or on verl's settings is checked in `prefix_opd.checks.preflight`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool, ValidationError

from prefix_opd.base.errors import UserError
from prefix_opd.base.fields import Fields, Position, Seconds, Tokens, whole
from prefix_opd.config.keys import LOSS_MODE_KEY
from prefix_opd.config.plugins import import_plugins
from prefix_opd.method.objective import OBJECTIVES, Objective, PrefixOPD
from prefix_opd.method.registry import Registry
from prefix_opd.method.schedule import SCHEDULES, Linear, Schedule
from prefix_opd.method.weighting import WEIGHTINGS, Uniform, Weighting

CHOICES: dict[str, Registry[Any]] = {"schedule": SCHEDULES, "loss": OBJECTIVES, "weighting": WEIGHTINGS}
"""Nodes that name a class and hold its settings."""


class PromptSettings(Fields):
    """What stands at the end of every prompt."""

    ending: str | None = "<think>"
    """Text put after the chat template's generation prompt, for student and teacher alike; none for nothing."""
    allow_split: StrictBool = False
    """Accept an ending of several tokens. A tag that the tokenizer splits is a tag that the teacher never saw."""


class RolloutSettings(Fields):
    """How rollouts stop and what comes back of them."""

    stop: Literal["both", "student", "teacher"] | tuple[Position, ...] = "both"
    """Whose end tokens stop a rollout, or token ids."""
    final_output_only: StrictBool = True
    """Ask vLLM for the finished rollout only and for no text: verl reads the tokens alone, when all are there."""
    seeded: Position | None = None
    """Draw each rollout with a seed of its own, derived from this one (`prefix_opd.method.seeds`), so that a run that
    was stopped and goes on samples what it would have sampled; none leaves drawing to the engine's one stream."""
    off_policy_steps: Annotated[int, BeforeValidator(whole), Field(ge=0, le=1)] = 0
    """How many updates earlier the policy may be that samples a step. 0: strictly on-policy. 1: the engines sample the
    next step while the trainer makes this one, and the importance ratio corrects what the update changed."""
    timeout_seconds: Seconds = 7200
    """How long the engines may take over one rollout and its score before it counts as failed, seconds."""


class AdvantageSettings(Fields):
    """A_t = stop_grad[log p_teacher - log p_student] (`prefix_opd.method.advantage`)."""

    student_log_prob: Literal["sampler", "current", "recomputed"] = "sampler"
    """Whose log p_student: the sampler's, that of the policy being updated, or that of a separate pass before it."""
    clamp: Annotated[float, Field(gt=0)] | None = None
    """Bound of |A_t|, nats; none as in the paper."""


class UpdateSettings(Fields):
    """How an update goes through its sequences; what it learns does not depend on it."""

    micro_batch_cost: Tokens | None = 512
    """Where sequences are padded, not packed: what a micro-batch costs however small it is, padded tokens. They are
    cut by length, one more wherever it saves more than this (`prefix_opd.method.micro_batches`); none: as verl does.
    The miniature needs 60 us of one core for a padded token and 36 ms for a micro-batch: as much as 600 tokens."""
    share_prompts: StrictBool = False
    """Where sequences are padded and attention is sdpa: compute a prompt once for those of its rollouts that are on a
    rank, and pad in attention alone (`prefix_opd.method.shared_prompts`)."""
    response_logits_only: StrictBool = True
    """Compute logits for the tokens that predict a response's, not for those of the prompt."""


class Watcher(Fields):
    """One thing that is watched before an update: what is too much of it, and what happens then."""

    threshold: float = 0.0
    """The bound; its unit is told where `WatcherSettings` lists it."""
    action: Literal["off", "warn", "skip", "stop"] = "warn"
    """warn in the log; skip this batch, which is sampled again; or stop the run with a message."""


class EveryRollout(Fields):
    """A step must learn from every rollout that it claims, so to go on without some is no choice."""

    threshold: ClassVar[float] = 0.0
    action: Literal["skip", "stop"] = "skip"


class LateWatcher(Fields):
    """One thing that is known only when the update is done, too late to skip the batch."""

    threshold: float = 0.0
    action: Literal["off", "warn", "stop"] = "warn"


class WatcherSettings(Fields):
    """What each step watches (`prefix_opd.verl_plugin.trainer.watchers`). The defaults leave a healthy run alone."""

    missing: EveryRollout = EveryRollout()
    """Rollouts that did not come back whole and scored (failed, timed out, short or misaligned teacher answer)."""
    not_finite: Watcher = Watcher(threshold=0, action="skip")
    """Tokens whose log-probs or advantage are no finite numbers."""
    uniform_teacher: Watcher = Watcher(threshold=0, action="skip")
    """Share of rollouts that the teacher scored as one who knows nothing: all tokens alike, or all near -log V."""
    reverse_kl: Watcher = Watcher(threshold=30.0, action="warn")
    """Mean of |log p_student - log p_teacher| of a token, nats."""
    repetition: Watcher = Watcher(threshold=0.5, action="warn")
    """Share of rollouts whose last tokens go round in a short cycle."""
    endless: Watcher = Watcher(threshold=0.99, action="warn")
    """Share of rollouts cut at data.max_response_length; a shorter L cuts by design and is not watched."""
    sampler_mismatch: LateWatcher = LateWatcher(threshold=0.2, action="warn")
    """Mean of |log p_trainer - log p_sampler| of a token, nats."""
    gradient_norm: LateWatcher = LateWatcher(threshold=1e6, action="warn")
    """Norm of the gradient before clipping."""
    not_finite_update: LateWatcher = LateWatcher(threshold=0, action="stop")
    """Numbers of the update that are not finite: loss and gradient norm. verl makes no step of such a gradient."""
    validation_missing: LateWatcher = LateWatcher(threshold=0, action="warn")
    """Validation answers that did not come back: verl averages what is left. Such an accuracy is never the best."""
    validation_endless: LateWatcher = LateWatcher(threshold=0.9, action="warn")
    """Share of validation answers without a natural end: no L cuts them, so the student has not learnt to end."""
    retries: Position = 2
    """How often in a row a step may throw its batch away before the run stops."""


class CheckpointSettings(Fields):
    """Which checkpoints stay (`prefix_opd.run.checkpoints`)."""

    keep_last: Tokens | None = None
    """How many of the newest; none: all of them."""
    keep_best: StrictBool = True
    """Also keep the one with the best validation accuracy."""
    allow_foreign: StrictBool = False
    """Accept a trainer.resume_from_path outside the run's folder. A checkpoint is unpickled, so it can run code."""


class ProbeSettings(Fields):
    """Uncapped training prompts that are sampled and scored now and then, and not trained on."""

    every: Annotated[int, BeforeValidator(whole), Field(ge=0)] = 0
    """Before the first update and after every so many; 0 for never."""
    prompts: Tokens = 4
    """How many, one rollout each; the same ones each time."""
    tail_warning: Annotated[float, Field(gt=0)] = 1.5
    """Warn when the mean |reverse KL| beyond L is so many times that of the first probe."""


class Settings(Fields):
    """The node ``prefix_opd``."""

    plugins: tuple[str, ...] = ()
    """Modules of the user's that register schedules, weightings or objectives (`prefix_opd.config.plugins`)."""
    schedule: Annotated[Schedule, BeforeValidator(SCHEDULES.build)] = Linear()
    """How many response tokens a training rollout may have, by step (`prefix_opd.method.schedule`)."""
    prompt: PromptSettings = PromptSettings()
    rollout: RolloutSettings = RolloutSettings()
    advantage: AdvantageSettings = AdvantageSettings()
    loss: Annotated[Objective, BeforeValidator(OBJECTIVES.build)] = PrefixOPD()
    """What the update minimises (`prefix_opd.method.objective`)."""
    update: UpdateSettings = UpdateSettings()
    weighting: Annotated[Weighting, BeforeValidator(WEIGHTINGS.build)] = Uniform()
    """Which positions of the prefix teach (`prefix_opd.method.weighting`)."""
    watchers: WatcherSettings = WatcherSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    probe: ProbeSettings = ProbeSettings()
    position_bins: Tokens = 16
    """Into how many bins of positions the reverse KL of a step is split in the metrics."""
    poll_seconds: Annotated[float, Field(gt=0, le=2)] = 0.05
    """How often the trainer looks for finished rollouts (verl: 2 s), seconds."""
    patches_off: tuple[str, ...] = ()
    """Names of patches that this run does without; docs/patches.md lists them."""
    allow_any_temperature: StrictBool = False
    """Accept a training temperature other than 1, at which the reward is no estimate of the reverse KL."""

    # Filled in by the launcher from the models at hand, never by hand.
    stop_token_ids: tuple[int, ...] = ()
    ignore_own_end_token: StrictBool = False

    @classmethod
    def from_node(cls, node: Mapping[str, Any], prefix: str = "prefix_opd") -> Settings:
        """Build from the plain dict of the config node, its plugins first.

        Raises:
            UserError: names the value and the rule.
        """
        import_plugins(node.get("plugins"))
        try:
            return cls.model_validate(node)
        except ValidationError as error:
            raise _as_user_error(error, prefix) from None


def _as_user_error(error: ValidationError, prefix: str) -> UserError:
    problem = error.errors(include_url=False)[0]
    names = [
        part for part in problem["loc"] if not str(part).startswith(("literal", "tuple", "constrained", "function"))
    ]
    key = ".".join([prefix, *map(str, names)])
    key = LOSS_MODE_KEY if key == f"{prefix}.loss.name" else key
    if problem["type"] == "extra_forbidden":
        return UserError(key, "is not a setting", "see `prefix-opd train --help`")
    rule = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = key if isinstance(value, Mapping) else f"{key}={value}"
    return UserError(shown, rule[0].lower() + rule[1:])
