"""verl's settings of a LoRA student: ``actor_rollout_ref.model.lora_rank`` and its neighbours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.lora import LINEAR, adapter_parameters

MODEL = "actor_rollout_ref.model"
ALL = "all-linear"
KNOWN = ", ".join(LINEAR)


@dataclass(frozen=True)
class Lora:
    """A student whose weights are frozen and whose adapter is trained."""

    rank: int
    alpha: int
    """The adapter's output is multiplied by alpha / rank."""
    modules: tuple[str, ...]
    """The adapted linear layers, of `LINEAR`."""
    merge: bool
    """Whether vLLM gets the merged weights instead of weights and adapter."""
    start: str | None = None
    """Folder of the adapter that the run starts from; None: a new one."""

    @property
    def label(self) -> str:
        """Example: ``LoRA of rank 16``."""
        where = "" if self.modules == LINEAR else f" on {', '.join(self.modules)}"
        return f"LoRA of rank {self.rank}{where}"

    @classmethod
    def of(cls, config: DictConfig) -> Lora | None:
        """The settings of a config; None where all weights are trained. Raises UserError for an unknown layer."""
        node: Any = OmegaConf.select(config, MODEL, default=None) or {}
        rank, alpha = node.get("lora_rank", 0), node.get("lora_alpha", 16)
        for key, value, least in (("lora_rank", rank, 0), ("lora_alpha", alpha, 1)):
            if type(value) is not int or value < least:
                raise UserError(f"{MODEL}.{key}={value}", f"must be a whole number of at least {least}")
        if not rank:
            return None
        asked = node.get("target_modules", ALL)
        named = LINEAR if asked == ALL else _names("target_modules", asked)
        left_out = _names("exclude_modules", node.get("exclude_modules"))
        modules = tuple(name for name in LINEAR if name in named and name not in left_out)
        if not modules:
            raise UserError(f"{MODEL}.target_modules={asked}", "leaves no layer to adapt", f"name some of {KNOWN}")
        merge = bool(OmegaConf.select(node, "lora.merge", default=False))
        return cls(rank, alpha, modules, merge, node.get("lora_adapter_path"))


def _names(key: str, value: Any) -> tuple[str, ...]:
    what, names = f"{MODEL}.{key}={value}", () if value is None else value
    fix = f"give {ALL + ' or ' if key == 'target_modules' else ''}a list of {KNOWN}"
    if not isinstance(names, (tuple, list, ListConfig)):
        raise UserError(what, "is not a list of linear layers", fix)
    if unknown := [name for name in names if name not in LINEAR]:
        raise UserError(what, f"{unknown[0]} is not a linear layer", fix)
    return tuple(names)


def student_shape(config: DictConfig, shape: ModelShape) -> ModelShape:
    """The student's shape with the adapter that the config asks for, if it does. Raises UserError."""
    lora = Lora.of(config)
    if lora is None:
        return shape
    try:
        return replace(shape, adapter=adapter_parameters(shape, lora.rank, lora.modules))
    except ValueError as error:
        path = OmegaConf.select(config, f"{MODEL}.path")
        raise UserError(f"{MODEL}.lora_rank={lora.rank}", f"{path} {error}", "train all its weights") from None
