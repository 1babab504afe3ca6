"""A run's folder, read once for whoever tells of it: the summary, the analyses, the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.errors import UserError
from prefix_opd.intervals import wilson
from prefix_opd.runfolder import CONFIG_FILE, check_is_run, is_being_written
from prefix_opd.runlog import read_metrics

_ACCURACY = re.compile(r"val-core/(?P<source>.+)/(?:acc|reward)/mean@(?P<k>\d+)$")
NEEDED = ("flops_exact/so_far", "flops_paper/so_far", "seconds/step", "response_length/mean", "ending/cut_fraction")
"""Metrics under ``prefix_opd/`` that every update of a run of this version has."""


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

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the accuracy, as if every sample were independent."""
        return wilson(self.accuracy, self.samples)


@dataclass(frozen=True)
class History:
    """What a run has written: its config, and one line of metrics a step (step 0 holds the first validation)."""

    folder: Path
    config: DictConfig
    lines: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return str(self.config.trainer.experiment_name)

    @cached_property
    def updates(self) -> list[dict[str, Any]]:
        """The lines of training steps."""
        return [line for line in self.lines if "prefix_opd/prefix_length" in line]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        found = []
        flops = paper = seconds = 0.0
        for line in self.lines:
            flops = line.get("prefix_opd/flops_exact/so_far", flops)
            paper = line.get("prefix_opd/flops_paper/so_far", paper)
            seconds += line.get("prefix_opd/seconds/step", 0.0)
            evaluation = _evaluation(line, self.folder, flops, paper, seconds)
            if evaluation:
                found.append(evaluation)
        return found


def read_history(folder: Path) -> History:
    """Read a run's folder as it is. Raises UserError if there is no run in it."""
    config = OmegaConf.load(check_is_run(folder) / CONFIG_FILE)
    try:
        return History(folder, config, list(read_metrics(folder)))
    except ValueError as error:
        raise UserError(str(folder), str(error)) from None


def read_finished(folder: Path) -> History:
    """Read a run that nobody is writing to, and that has what the analyses need.

    Raises:
        UserError: no run, a run that a live process holds (`runfolder.hold`), a run without updates, or one of
            another version.
    """
    history = read_history(folder)
    if is_being_written(folder):
        raise UserError(str(folder), "its run is still being written", "wait for its end, or stop it")
    if "prefix_opd" not in history.config or "experiment_name" not in (history.config.get("trainer") or {}):
        raise UserError(str(folder), f"its {CONFIG_FILE} is none of prefix-opd's", "name the folder that train printed")
    if not history.updates:
        raise UserError(str(folder), "has no metrics of an update yet", "train at least one step")
    for name in NEEDED:
        if f"prefix_opd/{name}" not in history.updates[-1]:
            raise UserError(
                str(folder), f"was written by another version: its updates have no prefix_opd/{name}", "train it again"
            )
    return history


def _evaluation(line: Mapping[str, Any], folder: Path, flops: float, paper: float, seconds: float) -> Evaluation | None:
    found = {match["source"]: value for name, value in line.items() if (match := _ACCURACY.match(name))}
    if not found:
        return None
    lengths = [v for name, v in line.items() if name.startswith("val-aux/") and "/response_length/mean@" in name]
    return Evaluation(
        step=line["step"],
        accuracy=sum(found.values()) / len(found),
        samples=_count_lines(folder / "validation" / f"{line['step']}.jsonl"),
        mean_length=sum(lengths) / len(lengths) if lengths else None,
        flops=flops,
        seconds=seconds,
        paper_flops=paper,
    )


def _count_lines(path: Path) -> int:
    return sum(1 for _ in path.open("rb")) if path.exists() else 0
