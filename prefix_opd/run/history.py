"""The content of a run's folder, for the summary, the analyses and the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import read_lines
from prefix_opd.config.keys import LOSS_MODE_KEY
from prefix_opd.grading.statistics import share_interval
from prefix_opd.method import names
from prefix_opd.method.objective import OBJECTIVES
from prefix_opd.run.folder import CONFIG_FILE, check_is_run, is_being_written
from prefix_opd.run.ledger import Evaluation, validations
from prefix_opd.run.log import read_metrics

NEEDED_SETTINGS = {
    "trainer.experiment_name": (str, int),
    "data.max_response_length": int,
    "data.train_batch_size": int,
    "actor_rollout_ref.rollout.n": int,
    "prefix_opd.schedule.name": str,
    "prefix_opd.weighting.name": str,
    "prefix_opd.position_bins": int,
    "prefix_opd.probe.tail_warning": (float, int),
}
"""Keys that every run's config must have, and the types of their values."""
VALIDATION_SAMPLES = "actor_rollout_ref.rollout.val_kwargs.n"


@dataclass(frozen=True)
class History:
    """A run's config and its lines of metrics, one per step. Step 0 has the first validation."""

    folder: Path
    config: DictConfig
    lines: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return str(self.config.trainer.experiment_name)

    @property
    def is_full_opd(self) -> bool:
        """Whether the run is full OPD: no cap on L, uniform weights, a reverse-KL objective."""
        ours = self.config.prefix_opd
        longest = ours.schedule.get("maximum")
        uncapped = longest is None or longest >= self.config.data.max_response_length
        uniform = ours.weighting.name == "uniform"
        return ours.schedule.name == "full" and uncapped and uniform and is_reverse_kl(self.config)

    @cached_property
    def updates(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if names.PREFIX_LENGTH in line]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """The complete validations, with what verl's files of answers say."""
        several, found = (OmegaConf.select(self.config, VALIDATION_SAMPLES) or 1) > 1, []
        for one in validations(self.lines):
            answers = read_answers(self.folder, one.step)
            shares = all(0 <= answer["score"] <= 1 for answer in answers)
            alone = several and shares and answers and len(one.scores) == 1
            interval = _over_problems(answers, one.accuracy) if alone else None
            found.append(replace(one, samples=len(answers), over_problems=interval, of_shares=shares))
        return found


def is_reverse_kl(config: DictConfig) -> bool:
    """Whether a run's objective has the gradient of the reverse KL of sampled tokens."""
    objective = OBJECTIVES.get(str(OmegaConf.select(config, LOSS_MODE_KEY) or OBJECTIVES.default))
    return objective is not None and objective.estimates_reverse_kl  # None for a user's own objective


def read_history(folder: Path) -> History:
    """Read a run's folder. The run may still be going on.

    Raises UserError: the folder contains no run, or another version or program wrote it.
    """
    config = _read_config(check_is_run(folder))
    history = History(folder, config, list(read_metrics(folder)))
    for update in history.updates:
        if missing := [name for name in names.NEEDED if name not in update]:
            rule = f"was written by another version: its updates have no {missing[0]}"
            raise UserError(str(folder), rule, "train it again")
    return history


def read_finished(folder: Path) -> History:
    """Read a finished run, as the analyses need it.

    Raises UserError: as `read_history`; the run is still going on, or it has no update.
    """
    history = read_history(folder)
    if is_being_written(folder):
        raise UserError(str(folder), "its run is still going on", "wait for its end, or stop it")
    if not history.updates:
        raise UserError(str(folder), "has no metrics of an update yet", "train at least one step")
    return history


def read_answers(folder: Path, step: int) -> list[dict[str, Any]]:
    """The graded answers of a validation as verl wrote them; empty where the file is missing. Raises UserError."""
    path = folder / "validation" / f"{step}.jsonl"
    lines = list(read_lines(path))
    if (odd := next((line for line in lines if not _is_answer(line)), None)) is not None:
        rule = f"has a line that is not a graded answer: {str(odd)[:80]}"
        raise UserError(str(path), rule, "another program wrote it")
    return lines


def _read_config(folder: Path) -> DictConfig:
    lacking = "it cannot be read"
    try:
        config = OmegaConf.load(folder / CONFIG_FILE)
        for key, kind in NEEDED_SETTINGS.items():
            lacking = f"it has no {key}"
            if not isinstance(OmegaConf.select(config, key), kind):
                raise TypeError
        return config
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, OSError, TypeError):
        rule = f"its {CONFIG_FILE} is not from prefix-opd: {lacking}"
        raise UserError(str(folder), rule, "name the folder that train printed") from None


def _is_answer(line: Any) -> bool:
    texts = isinstance(line, dict) and all(isinstance(line.get(name), str) for name in ("input", "output"))
    return texts and isinstance(line.get("score"), (int, float))


def _over_problems(answers: Sequence[Mapping[str, Any]], accuracy: float) -> tuple[float, float]:
    """95% interval over problems (`share_interval`), shifted to verl's accuracy."""
    scores: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        scores[answer["input"]].append(answer["score"])
    found = share_interval([sum(ones) / len(ones) for ones in scores.values()])
    low, high = (min(1.0, max(0.0, accuracy + end - found.mean)) for end in (found.low, found.high))
    return min(low, accuracy), max(high, accuracy)  # rounding, where all problems have the same score
