"""Random-weight Qwen3 models of several sizes, with the miniature's tokenizer.

Student and teacher have the same architecture and weights of different seeds. The cost of a step does not depend on
the weights' values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefix_opd.miniature import shipped_models


@dataclass(frozen=True)
class Size:
    """The sizes of a Qwen3 decoder. The gated MLP is three times as wide as the residual stream."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int


SIZES = {
    "0.1M": Size(48, 2, 2, 1, 32),
    "1M": Size(128, 6, 4, 2, 32),
    "6M": Size(256, 8, 8, 4, 32),
    "25M": Size(512, 8, 8, 4, 64),
}
"""By the number of parameters."""

_SEEDS = {"student": 0, "teacher": 1}


def model_folders(size: str, parent: Path) -> dict[str, Path]:
    """``{"student": ..., "teacher": ...}`` for a size: where `make_models` puts them."""
    return {role: parent / f"{size}_{role}" for role in _SEEDS}


def make_models(size: str, parent: Path) -> None:
    """Make the models of a size under ``parent`` that are not there yet."""
    for role, folder in model_folders(size, parent).items():
        if not (folder / "config.json").exists():
            _make(SIZES[size], role, folder)


def _make(size: Size, role: str, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, GenerationConfig, Qwen3ForCausalLM

    torch.manual_seed(_SEEDS[role])
    shipped = shipped_models()[role]
    model = Qwen3ForCausalLM(qwen3_config(size, shipped))
    model.generation_config = GenerationConfig.from_pretrained(shipped)
    draft = folder.with_name(folder.name + ".tmp")
    AutoTokenizer.from_pretrained(shipped).save_pretrained(draft)
    model.save_pretrained(draft)
    draft.rename(folder)


def qwen3_config(size: Size, shipped: Path):
    """The configuration of a shipped model with other sizes."""
    from transformers import Qwen3Config

    fields = Qwen3Config.from_pretrained(shipped).to_dict()
    fields.pop("layer_types", None)  # one word a layer, for another number of layers
    return Qwen3Config(**{**fields, **vars(size), "intermediate_size": 3 * size.hidden_size})
