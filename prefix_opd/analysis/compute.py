"""Accuracy against what it cost (arXiv 2602.15260, figure 4), and what it takes to reach a given accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from prefix_opd.data.files import sha256_of
from prefix_opd.errors import UserError
from prefix_opd.history import Evaluation, History

SAME_EVALUATION = (
    "data.val_files",
    "data.val_max_samples",
    "data.max_response_length",
    "prefix_opd.prompt.ending",
    "actor_rollout_ref.rollout.val_kwargs.temperature",
    "actor_rollout_ref.rollout.val_kwargs.top_p",
    "actor_rollout_ref.rollout.val_kwargs.top_k",
    "actor_rollout_ref.rollout.val_kwargs.do_sample",
    "actor_rollout_ref.rollout.val_kwargs.n",
)
"""Keys of the config that must be alike for accuracies to be set beside each other."""
COSTS = ("flops", "paper_flops", "seconds")
"""Exact FLOP, FLOP by the paper's accounting, seconds of training steps; all without validation."""


@dataclass(frozen=True)
class Cost:
    """What a run took to reach the target; none of it where it did not."""

    name: str
    flops: float | None
    paper_flops: float | None
    seconds: float | None
    ratios: dict[str, float]
    """The reference's cost / this run's, by kind of cost: above 1 means cheaper than the reference."""


@dataclass(frozen=True)
class Compute:
    """Several runs, evaluated alike."""

    target: float
    """Accuracy, 0 to 1."""
    reference: str | None
    evaluations: dict[str, list[Evaluation]]
    """By name of the run."""
    costs: list[Cost]

    def as_dict(self) -> dict[str, Any]:
        runs = {
            name: [{**asdict(one), "interval": list(one.interval)} for one in found]
            for name, found in self.evaluations.items()
        }
        return {
            "target": self.target,
            "reference": self.reference,
            "interpolation": "linear between evaluations",
            "runs": runs,
            "costs": [asdict(cost) for cost in self.costs],
        }


def compute(histories: Sequence[History], target: float | None = None, reference: str | None = None) -> Compute:
    """Set runs beside each other.

    Args:
        target: accuracy between 0 and 1; none: the highest that every run reached.
        reference: name (or folder's name) of the run that the ratios refer to; none: the one with the schedule
            ``full``, where there is one.

    Raises:
        UserError: runs evaluated differently or not at all, a target out of range, an unknown reference.
    """
    if target is not None and not 0 < target < 1:
        raise UserError(f"--target={target:g}", "must lie between 0 and 1", "e.g. --target 0.5")
    check_comparable(histories)
    for history in histories:
        if not history.evaluations:
            raise UserError(str(history.folder), "has no evaluation", "set trainer.test_freq above 0 and train")
    names = labels(histories)
    chosen = _reference(histories, names, reference)
    if target is None:
        target = min(max(one.accuracy for one in history.evaluations) for history in histories)
    reached = {
        name: {kind: cost_of(history.evaluations, target, kind) for kind in COSTS}
        for name, history in zip(names, histories, strict=True)
    }
    theirs = reached.get(chosen, {})
    costs = [
        Cost(name, **found, ratios={k: theirs[k] / v for k, v in found.items() if v and theirs.get(k)})
        for name, found in reached.items()
    ]
    return Compute(target, chosen, {n: h.evaluations for n, h in zip(names, histories, strict=True)}, costs)


def cost_of(evaluations: Sequence[Evaluation], target: float, kind: str) -> float | None:
    """The cost at which the accuracy first reaches the target, linear between evaluations; none if it never does."""
    before: Evaluation | None = None
    for one in evaluations:
        if one.accuracy >= target:
            if before is None:
                return getattr(one, kind)
            share = (target - before.accuracy) / (one.accuracy - before.accuracy)
            return getattr(before, kind) + share * (getattr(one, kind) - getattr(before, kind))
        before = one
    return None


def check_comparable(histories: Sequence[History]) -> None:
    """Refuse runs of another task or with other evaluation settings. Raises UserError, naming the difference."""
    first = histories[0]
    for other in histories[1:]:
        for key in SAME_EVALUATION:
            ours, theirs = (OmegaConf.select(history.config, key) for history in (first, other))
            if ours != theirs and not (key == "data.val_files" and _same_content(ours, theirs)):
                raise UserError(
                    f"{first.folder} and {other.folder}",
                    f"cannot be compared: {key}={ours} there, {theirs} here",
                    "name runs that were evaluated alike",
                )


def labels(histories: Sequence[History]) -> list[str]:
    """The runs' names; their folders' where two are alike."""
    names = [history.name for history in histories]
    if len(set(names)) == len(names):
        return names
    return [history.folder.resolve().name if names.count(history.name) > 1 else history.name for history in histories]


def _reference(histories: Sequence[History], names: Sequence[str], reference: str | None) -> str | None:
    for name, history in zip(names, histories, strict=True):
        known = (name, history.folder.resolve().name, str(history.folder))
        full = history.config.prefix_opd.schedule.name == "full"
        if reference in known if reference is not None else full:
            return name
    if reference is not None:
        raise UserError(f"--reference={reference}", "is none of the runs", f"choose from {', '.join(names)}")
    return None


def _same_content(ours: Any, theirs: Any) -> bool:
    """Two paths that hold the same bytes."""
    paths = [Path(str(one)) for one in (ours, theirs)]
    return all(path.is_file() for path in paths) and sha256_of(paths[0]) == sha256_of(paths[1])
