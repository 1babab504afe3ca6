"""The models of a plan by their sizes: no weights are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.config.decoder import shape_of
from prefix_opd.config.models import Model
from prefix_opd.config.teachers import Teacher
from prefix_opd.cost.arithmetic import stored_parameters
from prefix_opd.cost.memory import OF_SEVERAL
from prefix_opd.method.flops import ModelShape


@dataclass(frozen=True)
class Sized:
    shape: ModelShape
    parameters: int
    """In memory: with every expert, an embedding tied to the head once."""
    family: str

    @property
    def of_a_token(self) -> int:
        """Parameters that one token passes: all but the experts that are not its own."""
        return self.parameters - (self.shape.all_parameters - self.shape.matmul_parameters)


@dataclass(frozen=True)
class Scorer:
    """A teacher with its share of the rollouts."""

    teacher: Teacher
    model: Sized
    share: float


def sized(config: DictConfig, key: str) -> Sized:
    """The sizes of the model that a key names, from its folder, this package or the hub. Raises UserError."""
    path = OmegaConf.select(config, key)
    if not path:
        raise UserError(key, "is not set", f"add {key}=FOLDER or a hub id, or an experiment")
    is_hub_id = str(path).startswith("Qwen/") and not Path(str(path)).expanduser().is_dir()
    decoder = (shipped_config(str(path)) if is_hub_id else None) or Model(key, str(path)).decoder
    shape = shape_of(f"{key}={path}", decoder)
    parameters = stored_parameters(shape, tied=bool(decoder.get("tie_word_embeddings", False)))
    return Sized(shape, parameters, str(decoder.get("model_type")))


def label(teacher: Teacher) -> str:
    return f"{OF_SEVERAL}{teacher.source}" if teacher.source else "teacher"


def shipped_config(hub_id: str) -> dict[str, Any] | None:
    """``config.json`` of a model whose sizes ship with this package; None for others."""
    file = resources.files("prefix_opd.config") / "model_shapes" / f"{hub_id.rpartition('/')[2]}.json"
    return json.loads(file.read_text()) if file.is_file() else None
