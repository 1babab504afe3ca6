"""Checks of settings that are valid separately but not together."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.finding import Finding, warn
from prefix_opd.config.keys import ATTENTION_KEY, PACKED_ATTENTION
from prefix_opd.config.models import PLAIN_DECODERS, Model
from prefix_opd.config.overrides import OURS, parse, typed_keys
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import teachers
from prefix_opd.cost.memory import ROLLOUT_KEY
from prefix_opd.cost.plan import longest_prefix
from prefix_opd.method.layers import DeltaNet

DEFAULT_ATTENTION = "flash_attention_2"
"""verl's default attention (verl/workers/config/model.py: HFModelConfig)."""
HEAD_DIM = 256
"""Largest head dimension of torch's flash kernels; it must be a multiple of 8."""
INSTEAD = {
    PACKED_ATTENTION: "flash-attn is not installed, so the update uses torch's own flash kernels for packed sequences",
    "sdpa": "flash-attn is not installed, so the update uses sdpa: the same result, but attention costs the square of "
    "the length of a whole pack",
}
OPTIM = "actor_rollout_ref.actor.optim"
LOSS = "distillation.distillation_loss"
CPU_EXPERTS = 32
"""vllm/model_executor/layers/fused_moe/experts/cpu_moe.py: CPUUnquantizedExperts.output_alignment."""
SEPARATED = ("qwen3_5", "qwen3_5_moe")
"""Families with linear attention whose packed sequences verl separates (verl/models/transformers/qwen3_5.py)."""
STORAGE_KEY = "transfer_queue.backend.SimpleStorage.total_storage_size"
PLAIN = "name the model that it was made from"
CHECKPOINT_PARTS = ("model", "optimizer", "extra")


def choose_attention(config: DictConfig, student: Model) -> None:
    """Choose the student's attention, with a message, if flash-attn (verl's default) is not installed.

    Raises UserError if the requested attention cannot run.
    """
    chosen = OmegaConf.select(config, ATTENTION_KEY)
    reason = _why_not_packed(config, student)
    if chosen == PACKED_ATTENTION and reason:
        raise UserError(f"{ATTENTION_KEY}={chosen}", reason, "set sdpa")
    if _is_installed("flash_attn"):
        return
    instead = "sdpa" if reason else PACKED_ATTENTION
    if chosen is None:
        OmegaConf.update(config, ATTENTION_KEY, instead, force_add=True)
        print(INSTEAD[instead], file=sys.stderr)
    elif chosen == DEFAULT_ATTENTION:
        rule = "needs the package flash_attn, which is not installed"
        raise UserError(f"{ATTENTION_KEY}={chosen}", rule, f"install it, or set {instead}")


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _why_not_packed(config: DictConfig, student: Model) -> str:
    """Why torch's kernels for packed sequences cannot serve; empty if they can."""
    actor, family = config.actor_rollout_ref, student.config.get("model_type")
    if config.platform != "gpu":
        return "needs platform=gpu"
    if not actor.model.use_remove_padding:
        return "needs packed sequences (actor_rollout_ref.model.use_remove_padding=true)"
    if "packed_attention" in (config.prefix_opd.patches_off or ()):
        return "needs the patch packed_attention, which prefix_opd.patches_off switches off"
    if OmegaConf.select(actor, "actor.fsdp_config.mixed_precision.param_dtype") == "fp32":
        return "needs actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16"
    if family not in PLAIN_DECODERS:
        return f"is not known to serve {family}, but {', '.join(PLAIN_DECODERS)}"
    head_dim = next(mixer.head_dim for mixer, _ in student.shape.kinds)
    if head_dim % 8 or head_dim > HEAD_DIM:
        return f"needs a head dimension that is a multiple of 8 up to {HEAD_DIM}; the student has {head_dim}"
    return ""


def engine_keys(config: DictConfig) -> list[str]:
    """The nodes of the student's and the teachers' engines."""
    return [ROLLOUT_KEY, *(one.inference_key for one in teachers(config))]


def check_family(config: DictConfig, model: Model, node: str) -> None:
    """Reject layers that vLLM or, for the student, verl's update cannot compute as a run needs it. Raises UserError.

    ``node``: the settings of the model's engine; `ROLLOUT_KEY` for the student.
    """
    what, family, on_cpu = model.what, str(model.config.get("model_type")), config.platform == "cpu"
    kinds = model.shape.kinds  # raises if a size is missing
    is_linear = any(isinstance(mixer, DeltaNet) for mixer, _ in kinds)
    engine, is_student = OmegaConf.select(config, node), node == ROLLOUT_KEY
    if (model.config.get("vision_config") or family.startswith("qwen3_5")) and not _is_installed("torchvision"):
        rule = f"vLLM loads {family} with the package torchvision, which is not installed"
        raise UserError(what, rule, "install the torchvision that belongs to your torch")
    if is_linear and on_cpu:
        rule = "has linear attention, which vLLM computes in bfloat16 on a CPU, where a run needs float32"
        raise UserError(what, rule, "run it on a GPU")
    if is_linear and engine.enable_prefix_caching and not engine.enable_chunked_prefill:
        rule = f"needs enable_chunked_prefill=true for a model with linear attention ({model.path})"
        raise UserError(f"{node}.enable_prefix_caching=true", rule, f"set {node}.enable_prefix_caching=false")
    if is_student and is_linear and config.actor_rollout_ref.model.use_remove_padding and family not in SEPARATED:
        rule = f"has linear attention (model_type {family}), whose state would run on into the next packed sequence"
        raise UserError(what, rule, "set actor_rollout_ref.model.use_remove_padding=false")
    if is_student:
        check_plain(model)
    for _, mlp in kinds:
        if is_student and on_cpu and mlp.experts > 1 and mlp.width % CPU_EXPERTS:
            rule = f"has experts of width {mlp.width}, which vLLM on a CPU pads to a multiple of {CPU_EXPERTS}: the "
            raise UserError(what, f"{rule}trainer's weights do not fit", "take a machine with a GPU")


def check_plain(model: Model) -> None:
    """Reject quantised weights, which verl's FSDP engine does not load. Raises UserError."""
    names = ("quantization_config", "compression_config")
    if quantised := next((one for name in names if (one := model.config.get(name) or model.decoder.get(name))), None):
        method = quantised.get("quant_method", quantised) if isinstance(quantised, dict) else quantised
        rule = f"its weights are quantised ({method}), and verl's trainer loads only plain ones"
        raise UserError(model.what, rule, PLAIN)


def check_values(config: DictConfig) -> None:
    """Reject settings that verl, vLLM or torch would reject only after the models have loaded. Raises UserError."""
    for node in engine_keys(config):
        engine = OmegaConf.select(config, node)
        if engine.free_cache_engine and not engine.get("enable_sleep_mode", True):
            rule, fix = "needs enable_sleep_mode=true", f"set {node}.free_cache_engine=false"
            raise UserError(f"{node}.free_cache_engine=true", rule, fix)
        if engine.max_num_seqs > (batch := engine.max_num_batched_tokens):
            rule = f"exceeds max_num_batched_tokens={batch}: vLLM gives each sequence a token"
            raise UserError(f"{node}.max_num_seqs={engine.max_num_seqs}", rule, "lower the one or raise the other")
    variables = config.data.apply_chat_template_kwargs
    if taken := next((name for name in variables if name in _arguments_of_templates()), None):
        what = f"data.apply_chat_template_kwargs.{taken}={variables[taken]}"
        raise UserError(what, "is not a variable of a chat template: verl passes it itself", "leave it out")
    key = "actor_rollout_ref.actor.optim.override_optimizer_config"
    chosen = OmegaConf.select(config, key) or {}
    if chosen.get("fused") and chosen.get("foreach"):  # two implementations of AdamW
        raise UserError(f"{key}.foreach=true", "cannot be true beside fused=true", f"set {key}.fused=false")
    _check_unread(config)
    key = "actor_rollout_ref.actor.checkpoint.save_contents"
    saved = list(OmegaConf.select(config, key))
    if missing := [part for part in CHECKPOINT_PARTS if part not in saved]:
        rule = f"lacks {', '.join(missing)}: no run can continue from such a checkpoint"
        raise UserError(f"{key}={saved}", rule, f"name {', '.join(CHECKPOINT_PARTS)}")


def _check_unread(config: DictConfig) -> None:
    """Reject values that verl does not read beside others. Raises UserError."""
    optim, answers = config.actor_rollout_ref.actor.optim, config.actor_rollout_ref.rollout.val_kwargs
    if optim.lr_scheduler_type == "constant":
        for name, default in {"min_lr_ratio": 0.0, "num_cycles": 0.5, "zero_indexed_step": True}.items():
            if (value := optim.get(name)) not in (None, default):
                raise UserError(f"{OPTIM}.{name}={value}", f"is read only with {OPTIM}.lr_scheduler_type=cosine")
    if optim.lr_warmup_steps > 0 and optim.lr_warmup_steps_ratio:
        rule = f"is not read beside {OPTIM}.lr_warmup_steps={optim.lr_warmup_steps}"
        raise UserError(f"{OPTIM}.lr_warmup_steps_ratio={optim.lr_warmup_steps_ratio}", rule, "leave the one out")
    if not answers.do_sample and answers.temperature > 0:  # verl's agent loop reads the temperature alone
        rule = f"is not read: answers are sampled at val_kwargs.temperature={answers.temperature:g}"
        raise UserError(
            f"{ROLLOUT_KEY}.val_kwargs.do_sample=false", rule, f"set {ROLLOUT_KEY}.val_kwargs.temperature=0"
        )


def _arguments_of_templates() -> set[str]:
    """Arguments of ``apply_chat_template`` itself, which verl sets or which change what it returns."""
    from transformers import PreTrainedTokenizerBase

    return {*inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters} - {"self", "kwargs"}


def check_weighting(config: DictConfig, settings: Settings) -> None:
    """Reject a weighting that is 0 for every token, such as a window beyond L. Raises UserError."""
    response, steps, named = config.data.max_response_length, config.trainer.total_training_steps, config.prefix_opd
    what, schedule = f"prefix_opd.weighting.name={named.weighting.name}", f"schedule.name={named.schedule.name}"
    try:
        settings.weighting.at(settings.schedule, 1, response)
    except ValueError as error:
        fix = "set prefix_opd.schedule.name=random"
        raise UserError(what, f"{error}, and prefix_opd.{schedule} does not", fix) from error
    longest = longest_prefix(settings.schedule, steps, response)
    if not settings.weighting.counted(longest):
        shown = ", ".join(f"{name}={value}" for name, value in settings.weighting.model_dump().items())
        rule = f"counts no token of any rollout: L is at most {longest} in {steps} updates"
        raise UserError(f"{what} ({shown})", rule, "move it below that, or let L grow further")


def unused(config: DictConfig, overrides: Sequence[str]) -> list[Finding]:
    """A warning for each typed setting that the chosen schedule, weighting or objective does not read.

    Experiments may hold settings of several classes, and sweeps give all their runs the same ones.
    """
    settings, found = Settings.from_node(config.prefix_opd), []
    for key in sorted(typed_keys([parse(override) for override in overrides])):
        ours, node, name, *_ = [*key.split("."), "", ""]
        if ours == OURS and node in ("schedule", "weighting") and name not in ("", "name"):
            chosen = getattr(settings, node)
            if name not in type(chosen).model_fields:
                reason = f"{node}.name={config.prefix_opd[node].name} does not read it"
                found.append(warn(reason, "leave it out, or choose another").named(key))
        if key == f"{LOSS}.topk" and not settings.loss.needs_topk:
            reason = f"loss_mode={config.distillation.distillation_loss.loss_mode} does not read it"
            found.append(warn(reason, "leave it out, or choose an objective of the teacher's top tokens").named(key))
    return found


def stored(config: DictConfig, settings: Settings, rows: int) -> dict[str, int]:
    """Kind of rollouts -> how many TransferQueue holds at once, with at most ``rows`` validation rows."""
    trainer, data, rollout = config.trainer, config.data, config.actor_rollout_ref.rollout
    rows = min(one for one in (rows, data.val_max_samples, data.val_batch_size) if one is not None and one > 0)
    trained, answers = data.train_batch_size * rollout.n, rows * rollout.val_kwargs.n
    # verl validates before training whatever test_freq says, and clears a step's rollouts after its validation
    return {
        "rollouts of a step": trained * (1 + settings.rollout.off_policy_steps),
        "answers of a validation batch": answers if trainer.val_before_train else 0,
        "rollouts and answers of a step with a validation": trained + answers if trainer.test_freq > 0 else 0,
    }


def check_storage(config: DictConfig, needed: dict[str, int]) -> None:
    """Check that TransferQueue holds what `stored` says. Raises UserError."""
    for what, number in needed.items():
        if (size := OmegaConf.select(config, STORAGE_KEY)) < number:
            raise UserError(
                f"{STORAGE_KEY}={size}", f"does not hold the {number} {what}", f"set it to {number} or more"
            )


def _taken(config: DictConfig, rows: int) -> int:
    """The training rows that a run takes of those in its files."""
    return min(rows, taken) if (taken := config.data.train_max_samples) > 0 else rows


def check_probe(config: DictConfig, settings: Settings, rows: int) -> None:
    """Check that there are as many training rows as the probe has prompts. Raises UserError."""
    asked, rows = settings.probe.prompts, _taken(config, rows)
    if settings.probe.every and asked > rows:
        raise UserError(f"prefix_opd.probe.prompts={asked}", f"exceeds the {rows} training rows", "lower it")


def check_epochs(config: DictConfig, rows: int) -> None:
    """Check that the epochs suffice for the steps: verl ends a run after its last epoch. Raises UserError."""
    trainer, taken, batch = config.trainer, config.data.train_max_samples, config.data.train_batch_size
    rows = _taken(config, rows)
    if rows < batch:
        raise UserError(f"data.train_max_samples={taken}", f"is less than data.train_batch_size={batch}", "raise it")
    each, asked = rows // batch, trainer.total_training_steps
    if (steps := trainer.total_epochs * each) < asked:
        rule = f"ends the run after {steps} of {asked} updates: {rows} rows are {each} an epoch"
        raise UserError(f"trainer.total_epochs={trainer.total_epochs}", rule, f"set it to {-(-asked // each)} or more")
