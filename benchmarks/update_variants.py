"""What the benchmark of an update measures: shapes, sizes, and variants of the update."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from prefix_opd.config import model_shapes

SHAPES = {
    path.stem.lower().replace("-", "_"): shape
    for path in sorted(Path(model_shapes.__path__[0]).glob("Qwen3-*B.json"))
    if (shape := json.loads(path.read_text()))["model_type"] == "qwen3"
}
SHAPES["tiny"] = {
    **next(iter(SHAPES.values())),
    **dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2),
    **dict(head_dim=8, vocab_size=64),
}
HEAD = ("variant", "ms", "tokens/s", "MFU", "peak, GiB", "loss", "gradient", "note")
MICRO_BATCHES = 2


@dataclass(frozen=True)
class Sizes:
    """Tokens of a micro-batch, of a prompt and of a response."""

    micro_batch: int
    prompt: int
    response: int

    @property
    def sequence(self) -> int:
        return self.prompt + self.response

    @property
    def rows(self) -> int:
        """Sequences of a micro-batch."""
        return self.micro_batch // self.sequence

    def __str__(self) -> str:
        return f"{self.rows} x ({self.prompt} + {self.response}) tokens"


@dataclass(frozen=True)
class Variant:
    name: str
    checkpointed: bool = True
    micro_batches: int = MICRO_BATCHES
    fused_adam: bool = False
    reshard: bool = True
    """FSDP frees a layer's gathered weights after the forward pass."""
    reduce_once: bool = False
    """FSDP reduces gradients after the last micro-batch, and until then holds those of whole weights."""
    verls_head: bool = False
    """verl's Triton kernel in place of our fused head."""
    one_graph: bool = False
    """The attention inside a compiled layer's graph, not between two of them."""
    settings: dict[str, bool] = field(default_factory=dict)
    """Of ``prefix_opd.update``."""


EVERYTHING = dict(fused_head=True, compile_layers=True)
AS_BEFORE = Variant("as before")
"""The attention of runs without ours: flash-attn, or sdpa where it is not installed."""
PACKED = Variant("packed attention")
"""Ours. Where it fails, the other variants have the attention of `AS_BEFORE`."""
ALL = Variant("all", checkpointed=False, fused_adam=True, settings=EVERYTHING)
VARIANTS = (
    AS_BEFORE,
    PACKED,
    ALL,
    replace(ALL, name="all, one micro-batch", micro_batches=1),
    replace(ALL, name="all, one micro-batch, one graph", micro_batches=1, one_graph=True),
    replace(ALL, name="all but compilation", settings=dict(fused_head=True)),
    Variant("all, checkpointing by fit_memory", fused_adam=True, settings=dict(EVERYTHING, fit_memory=True)),
    Variant("+ compiled layers", settings=dict(compile_layers=True)),
    Variant("+ no checkpointing", checkpointed=False),
    Variant("+ fused head", settings=dict(fused_head=True)),
    Variant("+ verl's fused head", verls_head=True, settings=dict(fused_head=True)),
    Variant("+ one micro-batch", micro_batches=1),
    Variant("+ fused AdamW", fused_adam=True),
    Variant("+ gathered weights stay", reshard=False),
    Variant("+ gradients reduced once", reduce_once=True),
)


def row(variant: Variant, reason: str) -> list[str]:
    """The row of a variant without numbers."""
    return [variant.name, *[""] * (len(HEAD) - 2), reason.replace("|", "/")]
