"""Weights of response positions in the loss, e.g. window masking (arXiv 2602.15260, Table 3).

L decides which tokens are sampled. A weighting decides how much each sampled token counts in the loss. A weighting is
a class; its fields are its settings, under ``prefix_opd.weighting``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from prefix_opd.base.fields import Fields, Position, Tokens
from prefix_opd.method.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from prefix_opd.method.schedule import Schedule


class Weighting(Fields):
    """Weight of each response position in the loss."""

    def weights(self, positions: Tensor, lengths: Tensor) -> Tensor | None:
        """(B, T) weights; ``None`` means 1 everywhere.

        Args:
            positions: (B, T) positions among the tokens that the student sampled, from 0.
            lengths: (B, 1) number of tokens that the student sampled.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no weights")

    def at(self, schedule: Schedule, step: int, response_length: int) -> Weighting:
        """The weighting of one update, for weights that depend on how L was drawn.

        Args:
            response_length: verl's ``data.max_response_length``, tokens.

        Raises:
            ValueError: the schedule does not have what the weights need.
        """
        return self

    def counted(self, length: float) -> float:
        """Number of tokens with a nonzero weight in a response of ``length`` tokens."""
        import torch  # imported here, so that checks and most plans run without torch

        weights = self.weights(torch.arange(round(length))[None], torch.tensor([[round(length)]]))
        return length if weights is None else float(weights.count_nonzero())


def token_weights(mask: Tensor, weighting: Weighting) -> Tensor | None:
    """(B, T) float weights of a batch, 0 outside the mask; ``None`` means 1 everywhere.

    Args:
        mask: (B, T) bool, True on tokens that the student sampled.
    """
    weights = weighting.weights(mask.cumsum(-1) - 1, mask.sum(-1, keepdim=True))
    return None if weights is None else weights.float() * mask


WEIGHTINGS: Registry[Weighting] = Registry("weighting", default="uniform")


@WEIGHTINGS.register("uniform")
class Uniform(Weighting):
    """Weight 1 on every token of the prefix, as in the paper's loss."""

    def weights(self, positions: Tensor, lengths: Tensor) -> None:
        return None

    def counted(self, length: float) -> float:
        return length


@WEIGHTINGS.register("window")
class Window(Weighting):
    """Weight 1 inside [start, stop), 0 elsewhere. Positions count from the first response token."""

    start: Position = 0
    """First position of the window, from 0, tokens."""
    stop: Tokens | None = None
    """Position after the last one of the window, tokens."""

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
    """Weight 1 on the last ``tokens`` tokens of each response, 0 elsewhere."""

    tokens: Tokens | None = None
    """Number of last tokens with weight 1."""

    @model_validator(mode="after")
    def _has_a_number(self) -> Last:
        if self.tokens is None:
            raise ValueError("name=last needs tokens, the number of last tokens that count")
        return self

    def weights(self, positions: Tensor, lengths: Tensor) -> Tensor:
        return (positions >= lengths - self.tokens) & (positions < lengths)

    def counted(self, length: float) -> float:
        return min(length, self.tokens or 0)
