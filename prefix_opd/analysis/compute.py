"""Accuracy against training cost (arXiv 2602.15260, figure 4), and the cost of a target accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import sha256_of
from prefix_opd.config.keys import LOOP_KEY, below
from prefix_opd.run.history import Evaluation, History

SAME_EVALUATION = (
    *below("data", "val_files val_max_samples max_response_length"),
    "prefix_opd.prompt.ending",
    *below("actor_rollout_ref.rollout.val_kwargs", "temperature top_p top_k do_sample n"),
)
"""Keys that must be equal for accuracies to be comparable."""
SAME_WHERE_KNOWN = (
    *below("prefix_opd", "stop_token_ids ignore_own_end_token prompt.thinking rollout.tool_tokens"),
    LOOP_KEY,
    *below("reward.custom_reward_function", "path name reward_kwargs"),
)
"""Stop tokens, thinking and grader. These keys must be equal too, but a config without one of them passes."""
COST_LABELS = {
    "flops": "training FLOP, prompts included",
    "paper_flops": "training FLOP, the paper's count",
    "seconds": "seconds of training",
}
"""Kind of cost -> label of its axis. No cost includes validation."""


@dataclass(frozen=True)
class Cost:
    """Cost of reaching the target; None in each field if the run did not reach it."""

    name: str
    flops: float | None
    paper_flops: float | None
    seconds: float | None
    ratios: dict[str, float]
    """Kind of cost -> the reference's cost / this run's cost. Above 1: cheaper than the reference."""


@dataclass(frozen=True)
class Compute:
    """Runs with the same evaluation settings."""

    target: float
    """Accuracy, 0 to 1."""
    reference: str | None
    evaluations: dict[str, list[Evaluation]]
    """By the run's name."""
    costs: list[Cost]

    def as_dict(self) -> dict[str, Any]:
        names = ("step", "accuracy", "samples", "mean_length", *COST_LABELS, "interval")
        runs = {
            run: [{name: getattr(one, name) for name in names} for one in found]
            for run, found in self.evaluations.items()
        }
        return {
            "target": self.target,
            "reference": self.reference,
            "interpolation": "linear between evaluations",
            "runs": runs,
            "costs": [asdict(cost) for cost in self.costs],
        }


def compute(
    histories: Sequence[History], target: float | None = None, reference: str | None = None, skip: bool = False
) -> Compute:
    """Compare the training costs of runs.

    Args:
        target: accuracy between 0 and 1, by default the highest that every run reached.
        reference: name, or folder's name, of the run that ratios refer to. By default the run of full OPD
            (`History.is_full_opd`), if there is one.
        skip: leave out runs without a complete validation.

    Raises:
        UserError: runs without validation or with different settings, a target out of range, an unknown reference.
    """
    runs = dict(zip(labels(histories), histories, strict=True))
    chosen = _reference(runs, target, reference)
    _check_comparable(histories)
    evaluations = {name: history.evaluations for name, history in runs.items() if history.evaluations}
    for name, history in runs.items():
        if name not in evaluations and not skip:
            raise UserError(
                str(history.folder), "has no complete validation", "set trainer.test_freq above 0 and train"
            )
    if target is None:
        target = min((max(one.accuracy for one in found) for found in evaluations.values()), default=1.0)
    reached = {name: {kind: cost_of(ones, target, kind) for kind in COST_LABELS} for name, ones in evaluations.items()}
    theirs = reached.get(chosen, {})
    costs = [
        Cost(name, **found, ratios={k: theirs[k] / v for k, v in found.items() if v and theirs.get(k)})
        for name, found in reached.items()
    ]
    return Compute(target, chosen, evaluations, costs)


def cost_of(evaluations: Sequence[Evaluation], target: float, kind: str) -> float | None:
    """The cost, one of `COST_LABELS`, at which the accuracy first reaches the target; None if it never does.

    It is linear between evaluations: from accuracy 0.1 at cost 0 to 0.5 at 100, the target 0.2 costs 25.
    """
    before = None
    for one in evaluations:
        cost = getattr(one, kind)
        if one.accuracy >= target:
            if before is None:
                return cost
            spent = getattr(before, kind)
            return spent + (target - before.accuracy) / (one.accuracy - before.accuracy) * (cost - spent)
        before = one
    return None


def _reference(runs: Mapping[str, History], target: float | None, reference: str | None) -> str | None:
    """The name of the run that ratios refer to, or None.

    Raises:
        UserError: a target out of range, a reference that is unknown or has no complete validation.
    """
    if target is not None and not 0 < target < 1:
        raise UserError(f"--target={target:g}", "must lie between 0 and 1", "e.g. --target 0.5")
    if reference is None:
        return next((name for name, history in runs.items() if history.is_full_opd and history.evaluations), None)
    for name, history in runs.items():
        if reference in (name, history.folder.resolve().name, str(history.folder)):
            if not history.evaluations:
                raise UserError(f"--reference={reference}", "has no complete validation", "name a run that has one")
            return name
    raise UserError(f"--reference={reference}", "is not one of the runs", f"choose from {', '.join(runs)}")


def _check_comparable(histories: Sequence[History]) -> None:
    """Raises UserError with the first difference if runs have different evaluation settings."""
    first = histories[0]
    for other in histories[1:]:
        for key in (*SAME_EVALUATION, *SAME_WHERE_KNOWN):
            ours, theirs = (OmegaConf.select(one.config, key, default="unknown") for one in (first, other))
            if key in SAME_WHERE_KNOWN and "unknown" in (ours, theirs):
                continue
            if ours != theirs and not (key == "data.val_files" and _same_content(ours, theirs)):
                here, there = _unlike([[history.folder.resolve().name, history.folder] for history in (first, other)])
                rule = f"cannot be compared: {key} is {ours} in {here}, {theirs} in {there}"
                fix = "name runs with the same evaluation settings"
                raise UserError(f"{first.folder} and {other.folder}", rule, fix)


def labels(histories: Sequence[History]) -> list[str]:
    """A different name for each run: its name, or else its folder's name, its path, or its path and a number."""
    return _unlike([[one.name, one.folder.resolve().name, one.folder.resolve()] for one in histories])


def _unlike(choices: Sequence[Sequence[object]]) -> list[str]:
    """For each element its first unique choice; if there is none, the last choice with a number."""
    found = [str(ones[0]) for ones in choices]
    for i in range(1, max(map(len, choices), default=0)):
        found = [str(ones[i]) if found.count(name) > 1 else name for name, ones in zip(found, choices, strict=True)]
    return [f"{name} ({i})" if found.count(name) > 1 else name for i, name in enumerate(found, 1)]


def _same_content(ours: Any, theirs: Any) -> bool:
    """Whether two files have the same bytes."""
    paths = [Path(str(one)) for one in (ours, theirs)]
    return all(path.is_file() for path in paths) and sha256_of(paths[0]) == sha256_of(paths[1])
