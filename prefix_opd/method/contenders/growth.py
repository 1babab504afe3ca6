"""L grows when a signal of the run says so: the base of such schedules, and those on our own signals.

The paper leaves "adaptive schedules driven by validation or by KL/entropy signals" to future work (arXiv 2602.15260).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from prefix_opd.base.fields import Tokens
from prefix_opd.method import names
from prefix_opd.method.schedule import SCHEDULES, Growing, Need


class Adaptive(Growing):
    """L is part of the state: a subclass sets ``_length`` in `observe`."""

    _length: float = 0.0
    """L of the next update, tokens; 0: ``start``."""

    @property
    def length(self) -> float:
        """L of the next update, before its bounds, tokens."""
        return self._length or self.start

    def prefix_length(self, step: int, longest: int) -> float:
        return self.length


class GrowsBySignal(Adaptive):
    """L grows after ``patience`` observations in a row for which `is_due`. Subclasses have `signal_of` and `grown`."""

    patience: Tokens = 3
    """Number of observations in a row that must call for a longer L; prune_opd: for a shorter L."""
    _streak: int = 0

    def is_due(self, signal: float, threshold: float | None, metrics: Mapping[str, float]) -> bool | None:
        """Whether an update calls for a longer L. None: it has no such signal, and earlier observations still count."""
        raise NotImplementedError(f"{type(self).__name__} defines no is_due")

    def grown(self, length: float) -> float:
        """The L that follows ``length``, tokens."""
        raise NotImplementedError(f"{type(self).__name__} defines no grown")

    def observe(self, metrics: Mapping[str, float]) -> None:
        found = self.signal_of(metrics)
        due = None if found is None else self.is_due(*found, metrics)
        if due is None:
            return
        self._streak = self._streak + 1 if due else 0
        if self._streak >= self.patience and self.length <= metrics[names.PREFIX_LENGTH]:  # not yet at the maximum
            self._length, self._streak = math.floor(self.grown(self.length)), 0

    def extremes(self, step: int, longest: int) -> tuple[float, float]:
        length: float = self.start
        for _ in range((step - 1) // self.patience):
            if length >= longest:
                break
            length = math.floor(self.grown(length))
        return self.start, length


class GrowsByFactor(GrowsBySignal):
    factor: Annotated[float, Field(gt=1)] = 1.5
    """Factor by which L grows, by at least one token."""

    def grown(self, length: float) -> float:
        return max(length + 1, length * self.factor)


@SCHEDULES.register("signal")
class ByLastBin(GrowsByFactor):
    """L grows by a factor once the signal of its last bin of positions is below, or above, a threshold."""

    signal: Literal["reverse_kl", "entropy"] = "reverse_kl"
    """Mean of a token in the last bin before L, nats: |log p_student - log p_teacher|, or -log p_student."""
    when: Literal["below", "above"] = "below"
    """Whether L grows when the signal is below the threshold, or when it is above."""
    threshold: Annotated[float, Field(gt=0)] = 0.1
    """Nats per token."""
    hysteresis: Annotated[float, Field(ge=1)] = 1.2
    """The count of observations starts again only beyond threshold * hysteresis (above: threshold / hysteresis)."""

    def needs(self) -> set[Need]:
        return {"scores"} if self.signal == "reverse_kl" else set()

    def signal_of(self, metrics: Mapping[str, float]) -> tuple[float, float] | None:
        prefix = names.by_position("all")[1] if self.signal == "reverse_kl" else names.ENTROPY_BY_POSITION
        below = {first: value for first, value in names.bins(metrics, prefix).items() if first < self.length}
        return (below[max(below)], self.threshold) if below else None

    def is_due(self, signal: float, threshold: float | None, metrics: Mapping[str, float]) -> bool | None:
        excess = signal / self.threshold if self.when == "below" else self.threshold / max(signal, 1e-12)
        return True if excess < 1 else (None if excess <= self.hysteresis else False)


@SCHEDULES.register("validation")
class ByValidation(GrowsByFactor):
    """L grows by a factor once the accuracy of validations no longer rises."""

    gain: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """A validation calls for a longer L if its accuracy exceeds the best one before it by no more than this."""
    _best: float = -1.0

    def needs(self) -> set[Need]:
        return {"validation"}

    def signal_of(self, metrics: Mapping[str, float]) -> tuple[float, float | None] | None:
        """The accuracy, and the accuracy that it must exceed; None for the first."""
        scores = names.accuracies(metrics)
        if not scores or metrics.get(names.VALIDATION_MISSING, 0) > 0:
            return None
        accuracy = sum(share for share, _ in scores.values()) / len(scores)
        return accuracy, None if self._best < 0 else self._best + self.gain

    def is_due(self, signal: float, threshold: float | None, metrics: Mapping[str, float]) -> bool | None:
        self._best = max(self._best, signal)
        return threshold is not None and signal <= threshold


@SCHEDULES.register("tail")
class ByTail(GrowsByFactor):
    """L grows by a factor when the positions beyond it drift: |reverse KL| there exceeds that of the first probe."""

    tail_ratio: Annotated[float, Field(gt=0)] = 1.1
    """Mean |reverse KL| beyond L now / at the first probe (``prefix_opd/probe/tail_ratio``), from which on a probe
    calls for a longer L."""

    def needs(self) -> set[Need]:
        return {"probe", "scores"}

    def signal_of(self, metrics: Mapping[str, float]) -> tuple[float, float] | None:
        return (metrics[names.TAIL_RATIO], self.tail_ratio) if names.TAIL_RATIO in metrics else None

    def is_due(self, signal: float, threshold: float | None, metrics: Mapping[str, float]) -> bool | None:
        return signal >= self.tail_ratio
