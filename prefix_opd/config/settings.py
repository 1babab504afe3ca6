"""Every setting of this package: the node ``prefix_opd`` of the composed config, checked when it is built.

Settings of verl keep their place in verl's config. Invalid values (a length of 0, an unknown name) are rejected here;
`prefix_opd.checks.preflight` checks what depends on the models or on verl's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from omegaconf import DictConfig, OmegaConf
from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from prefix_opd.base.errors import UserError
from prefix_opd.base.fields import Fields, Position, Seconds, Tokens, whole
from prefix_opd.config.keys import LOSS_MODE_KEY
from prefix_opd.config.plugins import import_plugins
from prefix_opd.config.watchers import WatcherSettings
from prefix_opd.method import contenders  # noqa: F401  registers them
from prefix_opd.method.objective import OBJECTIVES, Objective, PrefixOPD
from prefix_opd.method.prompt import Thinking
from prefix_opd.method.registry import Registry
from prefix_opd.method.schedule import SCHEDULES, Linear, Schedule
from prefix_opd.method.teacher_prompt import TeacherPrompt
from prefix_opd.method.weighting import WEIGHTINGS, Uniform, Weighting

CHOICES: dict[str, Registry[Any]] = {"schedule": SCHEDULES, "loss": OBJECTIVES, "weighting": WEIGHTINGS}
"""Nodes that name a class and hold its settings."""


class PromptSettings(Fields):
    """The end of every prompt (`prefix_opd.method.prompt`)."""

    thinking: Thinking = "forced"
    """forced: `ending` opens the thinking. template: the chat template decides, by its own default or
    `data.apply_chat_template_kwargs.enable_thinking`. off: the student answers at once; the template's switch
    enable_thinking is false."""
    ending: str | None = "<think>"
    """Text after the chat template's generation prompt, for student and teacher alike; null for none. For
    `thinking=forced` only."""
    allow_split: StrictBool = False
    """Accept an ending of several tokens. The teacher was not trained on a tag that the tokenizer splits."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_forced(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("thinking", "forced") == "forced":
            return given
        return {"ending": None, **given}

    @field_validator("ending")
    @classmethod
    def _forced_alone(cls, ending: str | None, info: ValidationInfo) -> str | None:
        if ending and info.data.get("thinking", "forced") != "forced":
            raise ValueError(
                f"is read only with prompt.thinking=forced, not with {info.data['thinking']}; leave it out"
            )
        return ending


class RolloutSettings(Fields):
    """Sampling of rollouts."""

    stop: Literal["both", "student", "teacher"] | tuple[Position, ...] = "both"
    """The models whose end tokens stop a rollout, or token ids."""
    final_output_only: StrictBool = True
    """Ask vLLM for finished rollouts only and without text; verl needs no more."""
    seeded: Position | None = None
    """Give each rollout its own seed, derived from this one (`prefix_opd.method.seeds`). A resumed run then samples the
    same rollouts. null: the random stream of the engine."""
    off_policy_steps: Annotated[int, BeforeValidator(whole), Field(ge=0, le=1)] = 0
    """Age of the sampling policy in updates. 0: strictly on-policy. 1: the engines sample the next step during the
    update, and the importance ratio corrects for the difference."""
    tool_tokens: Annotated[int, BeforeValidator(whole), Field(ge=0)] = 0
    """Most tokens of a rollout's tool outputs, all turns together; L and data.max_response_length do not count them. A
    rollout with more ends before its next turn."""
    timeout_seconds: Seconds = 1800
    """How long the engines may make no progress, seconds: no rollout or score comes back, and no engine generates a
    token. Unfinished rollouts and validation answers are then cancelled and count as failed. Waiting in the queue of a
    working engine and grading have no limit. A weight transfer that takes longer ends the run."""


class TeacherSettings(Fields):
    """Where the teacher is, and when it scores (docs/gpu.md, docs/guide.md)."""

    placement: Literal["own", "shared"] = "own"
    """own: distillation.n_gpus_per_node x nnodes GPUs for the teacher alone. shared: the teacher's engines run on the
    student's GPUs."""
    phases: Literal["overlap", "turns"] = "overlap"
    """overlap: the teacher scores each rollout as it ends; on shared GPUs both engines then need memory at once. turns:
    it scores after the last rollout of a step; engines with free_cache_engine=true sleep outside their turn."""
    url: str | tuple[str, ...] | None = None
    """URL of a vLLM server that scores, e.g. http://HOST:8000/v1, or several such URLs, which take turns. The run then
    starts no teacher and needs no GPU for it; it reads only the config and tokenizer of the teacher's ``model_path``.
    null: the run starts the teacher."""
    served_name: str | None = None
    """The model's name at the server (``--served-model-name``); null: its ``model_path``."""
    key_variable: str = "PREFIX_OPD_TEACHER_KEY"
    """Environment variable with the server's API key. Export it on every machine of the run."""

    @model_validator(mode="after")
    def _of_a_url(self) -> Self:
        given = {"served_name": self.served_name, "key_variable": self.key_variable}
        unread = [name for name, value in given.items() if value != type(self).model_fields[name].default]
        if unread and not self.urls:
            raise ValueError(f"{unread[0]}={given[unread[0]]} is read only with teacher.url; set it, or leave this out")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs; empty if the run starts the teacher."""
        return (self.url,) if isinstance(self.url, str) else self.url or ()

    @property
    def is_shared(self) -> bool:
        """Whether the teacher's engines run on the student's GPUs."""
        return self.placement == "shared" and not self.urls

    @property
    def takes_turns(self) -> bool:
        """Whether it scores after the last rollout of a step."""
        return self.phases == "turns" and not self.urls


class AdvantageSettings(Fields):
    """A_t = stop_grad[log p_teacher - log p_student] (`prefix_opd.method.advantage`)."""

    student_log_prob: Literal["sampler", "current", "recomputed"] = "sampler"
    """Source of log p_student: the sampler, the policy being updated, or a separate pass before the update."""
    clamp: Annotated[float, Field(gt=0)] | None = None
    """Bound of |A_t|, nats; null (no bound) as in the paper."""

    @property
    def recomputes(self) -> bool:
        """Whether a separate student pass recomputes the log-probs of the rollouts."""
        return self.student_log_prob == "recomputed"


class UpdateSettings(Fields):
    """How an update processes its sequences; the gradient does not depend on it."""

    micro_batch_cost: Tokens | None = 512
    """Fixed cost of a micro-batch, in padded tokens. Padded sequences are split by length as long as a further
    micro-batch saves more padding than this (`prefix_opd.method.micro_batches`); null: verl's micro-batches. The
    miniature needs 60 us of one core per padded token and 36 ms per micro-batch, as much as 600 tokens."""
    share_prompts: StrictBool = False
    """Compute a prompt once for all its rollouts on the same rank, and pad only in attention
    (`prefix_opd.method.shared_prompts`). For padded sequences with sdpa attention."""
    response_logits_only: StrictBool = True
    """Compute logits only for the positions that predict response tokens."""
    fused_head: StrictBool = False
    """Compute log-probs from hidden states in chunks, without logits in fp32
    (`prefix_opd.verl_plugin.engine.fused_head`); not for verl's ``forward_kl_topk``. Models: llama, mistral, qwen2,
    qwen3, without and with experts."""
    compile_layers: StrictBool = False
    """Compile the layers by ``torch.compile`` for the update; the first update takes longer."""
    fit_memory: StrictBool = False
    """Skip gradient checkpointing in updates whose activations fit the GPU's free memory. Micro-batches then have 4 096
    tokens up to ppo_max_token_len_per_gpu (`prefix_opd.verl_plugin.engine.layers`)."""


class CheckpointSettings(Fields):
    """Which checkpoints are kept (`prefix_opd.run.checkpoints`)."""

    keep_last: Tokens | None = None
    """Number of newest checkpoints to keep; null: all."""
    keep_best: StrictBool = True
    """Also keep the checkpoint with the best validation accuracy."""
    allow_foreign: StrictBool = False
    """Accept a trainer.resume_from_path outside the run's folder."""


class ProbeSettings(Fields):
    """Uncapped rollouts of training prompts, scored but not trained on."""

    every: Annotated[int, BeforeValidator(whole), Field(ge=0)] = 0
    """Probe before the first update and after every so many updates; 0: never."""
    prompts: Tokens = 4
    """Number of prompts, one rollout each; always the same prompts."""
    tail_warning: Annotated[float, Field(gt=0)] = 1.5
    """Warn when the mean |reverse KL| beyond L exceeds that of the first probe by this factor."""


class Settings(Fields):
    """The node ``prefix_opd``."""

    plugins: tuple[str, ...] = ()
    """Your modules that register schedules, weightings or objectives (`prefix_opd.config.plugins`)."""
    schedule: Annotated[Schedule, BeforeValidator(SCHEDULES.build)] = Linear()
    """L, the longest training rollout in tokens, by step (`prefix_opd.method.schedule`)."""
    prompt: PromptSettings = PromptSettings()
    rollout: RolloutSettings = RolloutSettings()
    teacher: TeacherSettings = TeacherSettings()
    teacher_prompt: TeacherPrompt = TeacherPrompt()
    advantage: AdvantageSettings = AdvantageSettings()
    loss: Annotated[Objective, BeforeValidator(OBJECTIVES.build)] = PrefixOPD()
    """The loss of the update (`prefix_opd.method.objective`)."""
    update: UpdateSettings = UpdateSettings()
    weighting: Annotated[Weighting, BeforeValidator(WEIGHTINGS.build)] = Uniform()
    """Which positions of the prefix count in the loss (`prefix_opd.method.weighting`)."""
    watchers: WatcherSettings = WatcherSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    probe: ProbeSettings = ProbeSettings()
    accelerator: str | None = None
    """GPU that `prefix-opd plan` assumes: a100, h100, h200, l4, rtx4090 or cpu; null: a100, or cpu on that platform. If
    nvidia-smi shows no GPU, the engines' shares of memory follow from it, too."""
    flop_budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Exact training FLOP. The run ends with the update that reaches this number, after a validation if
    ``trainer.test_freq`` is above 0; null: it ends after trainer.total_training_steps."""
    position_bins: Tokens = 16
    """Number of position bins of the reverse KL in the metrics."""
    start_up_seconds: Seconds = 1800
    """How long the start-up may make no progress, seconds: no milestone is reached, and no process of the run starts in
    Ray. The run then ends and names what it waits for."""
    poll_seconds: Annotated[float, Field(gt=0, le=2)] = 0.05
    """Interval at which the trainer looks for finished rollouts, seconds (verl: 2)."""
    patches_off: tuple[str, ...] = ()
    """Names of patches to switch off (docs/patches.md)."""
    allow_any_temperature: StrictBool = False
    """Allow training temperatures other than 1; the reward is then a biased estimate of the reverse KL."""

    # The launcher sets these from the models.
    stop_token_ids: tuple[int, ...] = ()
    ignore_own_end_token: StrictBool = False

    @classmethod
    def from_node(cls, node: Mapping[str, Any] | DictConfig) -> Settings:
        """Build from the config node or its plain dict, its plugins first. Raises UserError."""
        plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
        import_plugins(plain.get("plugins"))
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            raise _as_user_error(error) from None


def _as_user_error(error: ValidationError) -> UserError:
    problems = error.errors(include_url=False)
    of_one = [one for one in problems if one["loc"][:2] == problems[0]["loc"][:2]]
    problem = max(of_one, key=lambda one: len(one["loc"]))  # of a union, the form that fits best
    kinds = ("literal", "tuple", "constrained", "function", "str")  # parts of a union, which pydantic names too
    key = ".".join(["prefix_opd", *(str(part) for part in problem["loc"] if not str(part).startswith(kinds))])
    key = LOSS_MODE_KEY if key == "prefix_opd.loss.name" else key
    if problem["type"] == "extra_forbidden":
        return UserError(key, "is not a setting", "see docs/settings.md")
    rule = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
    value = problem["input"]
    shown = key if isinstance(value, Mapping) else f"{key}={value}"
    return UserError(shown, rule[0].lower() + rule[1:])
