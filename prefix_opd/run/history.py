"""A run's folder, read once for whoever tells of it: the summary, the analyses, the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import read_lines
from prefix_opd.base.intervals import wilson
from prefix_opd.config.keys import LOSS_MODE_KEY
from prefix_opd.grading.statistics import bootstrap_interval
from prefix_opd.method import names
from prefix_opd.method.objective import OBJECTIVES
from prefix_opd.run.folder import CONFIG_FILE, check_is_run, is_being_written
from prefix_opd.run.ledger import Validation, validations
from prefix_opd.run.log import METRICS_FILE, read_metrics

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
"""Keys of the config that are read of every run, and the types of their values."""
VALIDATION_SAMPLES = "actor_rollout_ref.rollout.val_kwargs.n"


@dataclass(frozen=True)
class Evaluation:
    """One validation: never capped, so its lengths are those of full answers."""

    step: int
    accuracy: float
    """Share of right answers, mean over problems and samples, mean over data sets."""
    samples: int
    """Answers graded."""
    mean_length: float | None
    """Tokens."""
    flops: float
    """Exact FLOP of training up to here."""
    seconds: float
    """Seconds of training steps up to here, validation and start-up left out."""
    paper_flops: float = 0.0
    """FLOP of training up to here by the paper's accounting."""
    over_problems: tuple[float, float] | None = None
    """95% bootstrap interval over problems, where they have several answers each."""

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy: over problems, or Wilson's for one answer a problem."""
        return self.over_problems or wilson(self.accuracy, self.samples)


@dataclass(frozen=True)
class History:
    """What a run has written: its config, and one line of metrics a step (step 0 holds the first validation)."""

    folder: Path
    config: DictConfig
    lines: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return str(self.config.trainer.experiment_name)

    @property
    def is_full_opd(self) -> bool:
        """Whether it is what prefixes are compared with: no cap, all tokens teach, by the reverse KL of each."""
        ours = self.config.prefix_opd
        mode = OmegaConf.select(self.config, LOSS_MODE_KEY) or OBJECTIVES.default
        objective = OBJECTIVES.get(str(mode))  # none: a user's own
        reverse_kl = objective is not None and objective.estimates_reverse_kl
        return ours.schedule.name == "full" and ours.weighting.name == "uniform" and reverse_kl

    @cached_property
    def updates(self) -> list[dict[str, Any]]:
        """The lines of training steps."""
        return [line for line in self.lines if names.PREFIX_LENGTH in line]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        several = (OmegaConf.select(self.config, VALIDATION_SAMPLES) or 1) > 1
        return [_evaluation(one, self.folder, several) for one in validations(self.lines)]


def read_history(folder: Path) -> History:
    """Read a run's folder as it is.

    Raises:
        UserError: there is no run in it, or one of another version or program.
    """
    config = _read_config(check_is_run(folder))
    try:
        lines = list(read_metrics(folder))
    except ValueError as error:
        raise UserError(str(folder), str(error)) from None
    for line in lines:
        if not _is_metrics(line):
            raise UserError(
                str(folder / METRICS_FILE),
                f"has a line that is no object of numbers with a step: {str(line)[:80]}",
                "name the folder that train printed",
            )
    history = History(folder, config, lines)
    for update in history.updates:
        if missing := [name for name in names.NEEDED if name not in update]:
            told = f"was written by another version: its updates have no {missing[0]}"
            raise UserError(str(folder), told, "train it again")
    return history


def read_finished(folder: Path) -> History:
    """Read a run that nobody is writing to, and that has what the analyses need.

    Raises:
        UserError: no run, a run that a live process holds (`runfolder.hold`), a run without updates, or one of
            another version.
    """
    history = read_history(folder)
    if is_being_written(folder):
        raise UserError(str(folder), "its run is still being written", "wait for its end, or stop it")
    if not history.updates:
        raise UserError(str(folder), "has no metrics of an update yet", "train at least one step")
    return history


def read_answers(folder: Path, step: int) -> list[dict[str, Any]]:
    """The graded answers of a validation as verl wrote them; none where the file is gone. Raises UserError."""
    path = folder / "validation" / f"{step}.jsonl"
    try:
        answers = list(read_lines(path))
    except ValueError as error:
        raise UserError(str(path), str(error)) from None
    for answer in answers:
        if not _is_answer(answer):
            raise UserError(
                str(path), f"has a line that is no graded answer: {str(answer)[:80]}", "another program wrote it"
            )
    return answers


def _read_config(folder: Path) -> DictConfig:
    lacking = "it cannot be read"
    try:
        config = OmegaConf.load(folder / CONFIG_FILE)
        for key, kind in NEEDED_SETTINGS.items():
            lacking = f"it has no {key}"
            if not isinstance(OmegaConf.select(config, key), kind):
                break
        else:
            return config
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError, OSError, TypeError):
        pass
    raise UserError(
        str(folder), f"its {CONFIG_FILE} is none of prefix-opd's: {lacking}", "name the folder that train printed"
    )


def _is_metrics(line: Any) -> bool:
    return (
        isinstance(line, dict)
        and isinstance(line.get("step"), int)
        and all(isinstance(value, (int, float)) for value in line.values())
    )


def _is_answer(line: Any) -> bool:
    texts = isinstance(line, dict) and all(isinstance(line.get(name), str) for name in ("input", "output"))
    return texts and isinstance(line.get("score"), (int, float))


def _evaluation(found: Validation, folder: Path, several: bool) -> Evaluation:
    answers = read_answers(folder, found.step)
    return Evaluation(
        step=found.step,
        accuracy=found.accuracy,
        samples=len(answers),
        mean_length=found.mean_length,
        flops=found.spent.flops,
        seconds=found.spent.seconds,
        paper_flops=found.spent.paper_flops,
        over_problems=_over_problems(answers, found.accuracy) if several and answers else None,
    )


def _over_problems(answers: Sequence[Mapping[str, Any]], accuracy: float) -> tuple[float, float]:
    """Put around the accuracy, for that weighs data sets alike, and verl's file does not say which is whose."""
    scores: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        scores[answer["input"]].append(answer["score"])
    found = bootstrap_interval([sum(ones) / len(ones) for ones in scores.values()])
    low, high = (min(1.0, max(0.0, accuracy + end - found.mean)) for end in (found.low, found.high))
    return min(low, accuracy), max(high, accuracy)  # where all problems are alike the ends differ by a rounding
