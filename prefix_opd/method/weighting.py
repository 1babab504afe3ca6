"""Weights of response positions in the loss, apart from L: window masking (arXiv 2602.15260, Table 3).

L decides which tokens exist; a weighting decides which of them teach. A weighting is a class: its fields are its
settings, under ``prefix_opd.weighting``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from prefix_opd.base.fields import Fields, Position, Tokens
from prefix_opd.method.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Weighting(Fields):
    """Which positions of a response teach, and how much."""

    def weights(self, positions: Tensor, lengths: Tensor) -> Tensor | None:
        """
        Args:
            positions: (B, T) of the tokens, from 0.
            lengths: (B, 1) tokens of each response.

        Returns:
            (B, T) weights; ``None`` where every token counts alike, so that nothing is multiplied.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no weights")

    def counted(self, length: float) -> float:
        """How many tokens of a response of ``length`` tokens have a weight other than 0."""
        import torch  # here: the settings of a run are checked, and most runs are planned, without it

        weights = self.weights(torch.arange(round(length))[None], torch.tensor([[round(length)]]))
        return length if weights is None else float(weights.count_nonzero())


def token_weights(lengths: Tensor, width: int, weighting: Weighting) -> Tensor | None:
    """Weights of the tokens of a batch.

    Args:
        lengths: (B,) response lengths in tokens.
        width: T, the padded width.

    Returns:
        (B, T) float weights; ``None`` where every token counts alike.
    """
    import torch

    positions = torch.arange(width, device=lengths.device).expand(lengths.shape[0], width)
    weights = weighting.weights(positions, lengths[:, None])
    return None if weights is None else weights.float()


WEIGHTINGS: Registry[Weighting] = Registry("weighting", default="uniform")


@WEIGHTINGS.register("uniform")
class Uniform(Weighting):
    """Every token of the prefix counts alike: the paper's loss."""

    def weights(self, positions: Tensor, lengths: Tensor) -> None:
        return None

    def counted(self, length: float) -> float:
        return length


@WEIGHTINGS.register("window")
class Window(Weighting):
    """1 inside [start, stop), counted from the first response token; 0 elsewhere."""

    start: Position = 0
    """First position, from 0, tokens."""
    stop: Tokens | None = None
    """The position after the last, tokens."""

    @model_validator(mode="after")
    def _holds_a_token(self) -> Window:
        if self.stop is None or self.stop <= self.start:
            raise ValueError(f"window [{self.start}, {self.stop}) is empty; give stop above start")
        return self

    def weights(self, positions: Tensor, lengths: Tensor) -> Tensor:
        return (positions >= self.start) & (positions < self.stop)

    def counted(self, length: float) -> float:
        return max(0.0, min(length, self.stop or 0) - self.start)


@WEIGHTINGS.register("last")
class Last(Weighting):
    """1 on the last ``tokens`` tokens of each response; 0 elsewhere."""

    tokens: Tokens | None = None
    """How many last tokens count."""

    @model_validator(mode="after")
    def _has_a_number(self) -> Last:
        if self.tokens is None:
            raise ValueError("name=last needs tokens, the number of last tokens that count")
        return self

    def weights(self, positions: Tensor, lengths: Tensor) -> Tensor:
        return (positions >= lengths - self.tokens) & (positions < lengths)

    def counted(self, length: float) -> float:
        return min(length, self.tokens or 0)
