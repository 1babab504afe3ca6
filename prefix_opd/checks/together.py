"""Checks of settings that are valid separately but not together."""

from __future__ import annotations

import importlib.util
import sys

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.keys import ATTENTION_KEY, PACKED_ATTENTION
from prefix_opd.config.models import PLAIN_DECODERS, Model
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
    "a whole pack of sequences",
}
LOSS = "distillation.distillation_loss"
TEMPLATE_ARGUMENTS = (
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "max_length",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
)
"""Arguments of transformers' ``apply_chat_template`` itself, not variables of the template."""
CPU_EXPERTS = 32
"""vllm/model_executor/layers/fused_moe/experts/cpu_moe.py: CPUUnquantizedExperts.output_alignment."""
PACKED = ("qwen3_5", "qwen3_5_moe")
"""Families with linear attention whose packed sequences verl separates."""
CHECKPOINT_PARTS = ("model", "optimizer", "extra")


def choose_attention(config: DictConfig, student: Model) -> None:
    """Choose the student's attention, with a message, if flash-attn (verl's default) is not installed.

    Raises:
        UserError: the requested attention cannot run.
    """
    chosen = OmegaConf.select(config, ATTENTION_KEY)
    reason = _why_not_packed(config, student)
    if chosen == PACKED_ATTENTION and reason:
        raise UserError(f"{ATTENTION_KEY}={chosen}", reason, "set sdpa")
    if importlib.util.find_spec("flash_attn") is not None:
        return
    if chosen is None:
        instead = "sdpa" if reason else PACKED_ATTENTION
        OmegaConf.update(config, ATTENTION_KEY, instead, force_add=True)
        print(INSTEAD[instead], file=sys.stderr)
    elif chosen == DEFAULT_ATTENTION:
        raise UserError(
            f"{ATTENTION_KEY}={chosen}",
            "needs the package flash_attn, which is not installed",
            f"install it, or set {'sdpa' if reason else PACKED_ATTENTION}",
        )


def engine_keys(config: DictConfig) -> list[str]:
    """The nodes of the student's and the teachers' engines."""
    return [ROLLOUT_KEY, *(one.inference_key for one in teachers(config))]


def check_vision_package(model: Model) -> None:
    """Reject a family that vLLM imports with torchvision where that is not installed. Raises UserError."""
    family = str(model.config.get("model_type"))
    if (model.config.get("vision_config") or family.startswith("qwen3_5")) and not _is_installed("torchvision"):
        raise UserError(
            f"{model.key}={model.path}",
            f"vLLM loads {family} with the package torchvision, which is not installed",
            "install the torchvision that belongs to your torch",
        )


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def check_linear_attention(config: DictConfig, model: Model, node: str) -> None:
    """Reject a platform or a prefix cache that vLLM refuses for a model with linear attention. Raises UserError.

    Args:
        node: the settings of the model's engine.
    """
    engine = OmegaConf.select(config, node)
    linear = any(isinstance(mixer, DeltaNet) for mixer, _ in model.shape.kinds)
    if linear and config.platform == "cpu":
        raise UserError(
            f"{model.key}={model.path}",
            "has linear attention, which vLLM on a CPU computes in bfloat16 alone, and a run on a CPU is in float32",
            "run it on a GPU",
        )
    if linear and engine.enable_prefix_caching and not engine.enable_chunked_prefill:
        raise UserError(
            f"{node}.enable_prefix_caching=true",
            f"needs enable_chunked_prefill=true for a model with linear attention ({model.path})",
            f"set {node}.enable_prefix_caching=false",
        )


def check_experts(config: DictConfig, student: Model) -> None:
    """Reject experts that vLLM on a CPU pads: the trainer's weights would not fit the engine's. Raises UserError."""
    for _, mlp in student.shape.kinds:
        if config.platform == "cpu" and mlp.experts > 1 and mlp.width % CPU_EXPERTS:
            raise UserError(
                f"{student.key}={student.path}",
                f"has experts of width {mlp.width}, which vLLM on a CPU pads to a multiple of {CPU_EXPERTS}: weights "
                "that the trainer sends do not fit",
                "train it on a GPU",
            )


def check_packing(config: DictConfig, student: Model) -> None:
    """Reject packed sequences for a student with linear attention whose states verl does not separate.

    verl hands the ends of the sequences to the layers of these families alone (verl/models/transformers/qwen3_5.py).
    Raises UserError.
    """
    linear = any(isinstance(mixer, DeltaNet) for mixer, _ in student.shape.kinds)
    if linear and config.actor_rollout_ref.model.use_remove_padding and student.config.get("model_type") not in PACKED:
        raise UserError(
            f"{student.key}={student.path}",
            f"has linear attention (model_type {student.config.get('model_type')}), whose state would run from one "
            "packed sequence into the next in the update",
            "set actor_rollout_ref.model.use_remove_padding=false",
        )


def _why_not_packed(config: DictConfig, student: Model) -> str:
    """Why torch's kernels for packed sequences cannot serve; empty if they can."""
    actor = config.actor_rollout_ref
    if config.platform != "gpu":
        return "needs platform=gpu"
    if not actor.model.use_remove_padding:
        return "needs packed sequences (actor_rollout_ref.model.use_remove_padding=true)"
    if "packed_attention" in (config.prefix_opd.patches_off or ()):
        return "needs the patch packed_attention, which prefix_opd.patches_off switches off"
    if OmegaConf.select(actor, "actor.fsdp_config.mixed_precision.param_dtype") == "fp32":
        return "needs actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16"
    if (family := student.config.get("model_type")) not in PLAIN_DECODERS:
        return f"is not known to serve {family}, but {', '.join(PLAIN_DECODERS)}"
    head_dim = next(mixer.head_dim for mixer, _ in student.shape.kinds)
    if head_dim % 8 or head_dim > HEAD_DIM:
        return f"needs a head dimension that is a multiple of 8 up to {HEAD_DIM}; the student has {head_dim}"
    return ""


def check_engine_settings(config: DictConfig) -> None:
    """Reject engine settings that vLLM would reject only at start-up. Raises UserError."""
    for node in engine_keys(config):
        engine = OmegaConf.select(config, node)
        if engine.free_cache_engine and not engine.get("enable_sleep_mode", True):
            raise UserError(
                f"{node}.free_cache_engine=true", "needs enable_sleep_mode=true", f"set {node}.free_cache_engine=false"
            )
        if engine.max_num_seqs > engine.max_num_batched_tokens:
            raise UserError(
                f"{node}.max_num_seqs={engine.max_num_seqs}",
                f"exceeds max_num_batched_tokens={engine.max_num_batched_tokens}: vLLM gives each sequence a token",
                "lower the one or raise the other",
            )


def check_template_arguments(config: DictConfig) -> None:
    """Reject arguments that verl sets itself or that change the template's return type. Raises UserError."""
    given = config.data.apply_chat_template_kwargs
    if taken := next((name for name in given if name in TEMPLATE_ARGUMENTS), None):
        raise UserError(
            f"data.apply_chat_template_kwargs.{taken}={given[taken]}",
            "is no variable of a chat template: verl passes it itself",
            "leave it out",
        )


def check_optimizer(config: DictConfig) -> None:
    """Reject two implementations of AdamW at once, as torch would after the models have loaded. Raises UserError."""
    key = "actor_rollout_ref.actor.optim.override_optimizer_config"
    chosen = OmegaConf.select(config, key) or {}
    if chosen.get("fused") and chosen.get("foreach"):
        raise UserError(f"{key}.foreach=true", "cannot be true beside fused=true", f"set {key}.fused=false")


def check_checkpoint(config: DictConfig) -> None:
    """Check that checkpoints contain what a resumed run needs: weights, optimizer, random states. Raises UserError."""
    saved = list(config.actor_rollout_ref.actor.checkpoint.save_contents)
    missing = [part for part in CHECKPOINT_PARTS if part not in saved]
    if missing:
        raise UserError(
            f"actor_rollout_ref.actor.checkpoint.save_contents={saved}",
            f"lacks {', '.join(missing)}: no run could go on from such a checkpoint",
            f"name {', '.join(CHECKPOINT_PARTS)}",
        )


def check_weighting(config: DictConfig, settings: Settings) -> None:
    """Reject a weighting that is 0 for every token, such as a window beyond L. Raises UserError."""
    response, steps = config.data.max_response_length, config.trainer.total_training_steps
    try:
        settings.weighting.at(settings.schedule, 1, response)
    except ValueError as error:
        raise UserError(
            f"prefix_opd.weighting.name={config.prefix_opd.weighting.name}",
            f"{error}, and prefix_opd.schedule.name={config.prefix_opd.schedule.name} does not",
            "set prefix_opd.schedule.name=random",
        ) from error
    longest = longest_prefix(settings.schedule, steps, response)
    if not settings.weighting.counted(longest):
        shown = ", ".join(f"{name}={value}" for name, value in settings.weighting.model_dump().items())
        raise UserError(
            f"prefix_opd.weighting.name={config.prefix_opd.weighting.name} ({shown})",
            f"counts no token of any rollout: L is at most {longest} in {steps} updates",
            "move it below that, or let L grow further",
        )


def check_epochs(config: DictConfig, rows: int) -> None:
    """Check that the epochs suffice for the steps: verl ends a run after its last epoch. Raises UserError."""
    trainer = config.trainer
    taken = config.data.train_max_samples
    rows = min(rows, taken) if taken > 0 else rows
    batch = config.data.train_batch_size
    if rows < batch:
        raise UserError(f"data.train_max_samples={taken}", f"is less than data.train_batch_size={batch}", "raise it")
    steps = trainer.total_epochs * (rows // batch)
    if steps < trainer.total_training_steps:
        raise UserError(
            f"trainer.total_epochs={trainer.total_epochs}",
            f"ends the run after {steps} of {trainer.total_training_steps} updates: {rows} rows are {rows // batch} an "
            "epoch",
            f"set it to {-(-trainer.total_training_steps // (rows // batch))} or more",
        )
