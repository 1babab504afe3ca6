"""Weights of response positions in the loss, apart from the cap: window masking (arXiv 2602.15260, Table 3).

The cap decides which tokens exist; a weighting decides which of them teach. A weighting is a function
(positions, lengths, settings) -> weights, so any other (decay, ramps) is one function more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from prefix_opd.config.settings import WeightingSettings

Weighting = Callable[["Tensor", "Tensor", "WeightingSettings"], "Tensor"]

WEIGHTINGS: dict[str, Weighting] = {}


def register_weighting(name: str) -> Callable[[Weighting], Weighting]:
    """Make a function available as ``prefix_opd.weighting.name=NAME``."""

    def add(weighting: Weighting) -> Weighting:
        WEIGHTINGS[name] = weighting
        return weighting

    return add


def token_weights(lengths: Tensor, width: int, settings: WeightingSettings) -> Tensor | None:
    """Weights of the tokens of a batch.

    Args:
        lengths: (B,) response lengths in tokens.
        width: T, the padded width.
        settings: ``prefix_opd.weighting``.

    Returns:
        (B, T) float weights; ``None`` where every token counts alike, so that nothing is multiplied.
    """
    if settings.name == "uniform":
        return None
    import torch  # here, as the settings of a run are checked without it

    positions = torch.arange(width, device=lengths.device).expand(lengths.shape[0], width)
    return WEIGHTINGS[settings.name](positions, lengths[:, None], settings).float()


@register_weighting("uniform")
def uniform(positions: Tensor, lengths: Tensor, settings: WeightingSettings) -> Tensor:
    """Every token of the prefix counts alike: the paper's loss."""
    return positions.new_ones(positions.shape)


@register_weighting("window")
def window(positions: Tensor, lengths: Tensor, settings: WeightingSettings) -> Tensor:
    """1 inside [start, stop), counted from the first response token; 0 elsewhere."""
    return (positions >= settings.start) & (positions < settings.stop)


@register_weighting("last")
def last(positions: Tensor, lengths: Tensor, settings: WeightingSettings) -> Tensor:
    """1 on the last ``tokens`` tokens of each response; 0 elsewhere."""
    return (positions >= lengths - settings.tokens) & (positions < lengths)
