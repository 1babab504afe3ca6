"""Checks of a LoRA student, and of the adapter that it may start from."""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.rules import is_whole
from prefix_opd.config.decoder import DENSE_FAMILIES
from prefix_opd.config.lora import ALL, KNOWN, MODEL, Lora, student_shape
from prefix_opd.config.models import ADAPTER_FILE, Model, read_json
from prefix_opd.method.lora import LINEAR, adapter_parameters

VLLM_MOST = 512
"""The largest rank that vLLM takes as an adapter (vllm/config/lora.py: MaxLoRARanks)."""
DEFAULTS = {"lora_alpha": 16, "target_modules": "all-linear", "exclude_modules": None, "lora_adapter_path": None}
"""verl's defaults of the settings that only a LoRA student reads."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_EMPTY = (
    *("alpha_pattern", "exclude_modules", "layers_to_transform", "lora_bias", "lora_dropout", "modules_to_save"),
    *("rank_pattern", "target_parameters", "trainable_token_indices", "use_dora", "use_rslora"),
)
"""Settings of PEFT's LoRA that are unset in a plain adapter."""


def check_lora(config: DictConfig) -> None:
    """Reject LoRA settings that do not fit each other, before a model is read. Raises UserError."""
    node, lora = OmegaConf.select(config, MODEL), Lora.of(config)
    if lora is None:
        for key, default in {**DEFAULTS, "lora.merge": False}.items():
            if (value := OmegaConf.select(node, key)) != default:
                fix = f"set {MODEL}.lora_rank, or leave it out"
                raise UserError(f"{MODEL}.{key}={value}", "is read only by a LoRA student", fix)
        return
    if lora.rank > VLLM_MOST and not lora.merge:
        rule, fix = f"vLLM takes adapters up to rank {VLLM_MOST}", f"lower it, or set {MODEL}.lora.merge=true"
        raise UserError(f"{MODEL}.lora_rank={lora.rank}", rule, fix)
    if lora.merge and (dtype := config.actor_rollout_ref.rollout.dtype) != "bfloat16":
        rule = f"verl sends merged weights in bfloat16: an engine in {dtype} would sample from another policy"
        raise UserError(f"{MODEL}.lora.merge=true", rule, "leave it at false, so that the engine gets the adapter")
    key = "actor_rollout_ref.actor.checkpoint.save_contents"
    if "hf_model" in OmegaConf.select(config, key):
        rule = "hf_model would have the parameter names of an adapted model, which nothing loads"
        raise UserError(key, rule, "leave hf_model out and use `prefix-opd export`")


def check_student(config: DictConfig, student: Model) -> None:
    """Check that the student has the layers of `LINEAR`, and that the adapter to start from is its own."""
    lora = Lora.of(config)
    if lora is None:
        return
    student_shape(config, student.shape)
    what = f"{MODEL}.lora_rank={lora.rank}"
    if student.config.get("text_config"):
        rule = f"{student.path} has a part beside its decoder, which verl would adapt too"
        raise UserError(what, rule, "train all its weights")
    kind, asked = student.config.get("model_type"), config.actor_rollout_ref.model.target_modules
    layers = student.linear_layers or (set(LINEAR) if kind in DENSE_FAMILIES else set())
    if not layers:
        rule = f"the linear layers of {student.path} (model_type {kind}) are not known without its weights"
        raise UserError(what, rule, f"fetch it, and set {MODEL}.path=FOLDER")
    if odd := set(lora.modules) - layers or (asked == ALL and layers - set(LINEAR)):
        rule = f"the linear layers of {student.path} are {', '.join(sorted(layers))} ({min(odd)} is odd)"
        raise UserError(f"{MODEL}.target_modules={asked}", rule, f"an adapter can have {KNOWN}")
    if lora.start is not None:
        check_adapter(f"{MODEL}.lora_adapter_path", lora, student)


def check_adapter(key: str, lora: Lora, student: Model) -> None:
    """Check that the adapter in ``lora.start`` has these settings and the student's sizes. Raises UserError."""
    what = f"{key}={lora.start}"
    base, theirs = base_and_settings(key, str(lora.start))
    if base and Path(base).name != Path(student.path).name:
        fix = f"name its base; if both hold the same weights, change base_model_name_or_path in {ADAPTER_FILE}"
        raise UserError(what, f"is an adapter of {base}, and the student is {student.path}", fix)
    for name, setting in (("rank", "lora_rank"), ("alpha", "lora_alpha"), ("modules", "target_modules")):
        found, asked = getattr(theirs, name), getattr(lora, name)
        if found != asked:
            shown = f"[{','.join(found)}]" if name == "modules" else found
            raise UserError(what, f"has {name} {shown}, the run {asked}", f"set {MODEL}.{setting}={shown}")
    held = sum(map(math.prod, Model(key, str(lora.start)).tensors.values()))
    if held != (needed := adapter_parameters(student.shape, lora.rank, lora.modules)):
        rule = f"has {held} weights, an adapter of {student.path} has {needed}"
        raise UserError(what, rule, "give an adapter of that student")


def base_and_settings(key: str, folder: str) -> tuple[str, Lora]:
    """The base of an adapter in PEFT's layout ("" if it names none), and its settings.

    Raises UserError, with ``key`` before the folder, if it has no adapter or one that verl or vLLM does not know.
    """
    place, what = Path(folder).expanduser(), f"{key}={folder}"
    for name in (ADAPTER_FILE, ADAPTER_WEIGHTS):
        if not (place / name).is_file():
            raise UserError(
                what, f"is not an adapter: it has no {name}", "name a folder that PEFT's save_pretrained wrote"
            )
    found = read_json(Model(key, folder), place / ADAPTER_FILE)
    for name, value in {"peft_type": "LORA", "bias": "none", **dict.fromkeys(_EMPTY)}.items():
        if (given := found.get(name) or None) not in (value, None):
            raise UserError(
                what,
                f"is not a plain LoRA adapter: it has {name}={given}",
                "remove that setting, or start without the adapter",
            )
    rank, alpha, modules = (found.get(name) for name in ("r", "lora_alpha", "target_modules"))
    known = isinstance(modules, list) and all(name in LINEAR for name in modules)
    whole = is_whole(alpha) or (isinstance(alpha, float) and alpha.is_integer())
    if not (known and modules and is_whole(rank) and rank > 0 and whole and alpha > 0):
        rule = f"has r={rank}, lora_alpha={alpha}, target_modules={modules}"
        raise UserError(what, rule, f"an adapter can have {KNOWN}")
    ordered = tuple(name for name in LINEAR if name in modules)
    return str(found.get("base_model_name_or_path") or ""), Lora(rank, int(alpha), ordered, False, str(place))
