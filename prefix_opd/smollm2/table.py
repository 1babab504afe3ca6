"""Accuracy and cost of finished runs, as a markdown table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefix_opd.base.errors import UserError
from prefix_opd.base.terminal import between
from prefix_opd.run.history import read_finished

HEAD = ("model", "problems", "accuracy", "95% interval", "updates", "training FLOP", "training seconds", "mean tokens")


def table(runs: Sequence[Path], evaluations: Sequence[Path] = ()) -> str:
    """One row for each evaluation and run; shares of cost refer to the first run.

    Args:
        runs: run folders. The accuracy is that of the last validation.
        evaluations: folders with a ``results.json`` of ``prefix-opd evaluate``.

    Raises:
        UserError: a folder without results, an unfinished run, or a run without validation.
    """
    rows = [HEAD, ["---"] * len(HEAD), *_measured(evaluations), *_trained(runs)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _measured(folders: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    for folder in folders:
        path = folder / "results.json"
        if not path.is_file():
            raise UserError(str(folder), "has no results.json", "name a folder that prefix-opd evaluate wrote")
        for one in json.loads(path.read_text())["benchmarks"].values():
            shown = (f"{one['mean']:.1%}", between(one["interval"]), "", "", "", f"{one['mean_length']:.0f}")
            yield (folder.name, f"{one['problems']} x {one['k']}", *shown)


def _trained(folders: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    first = None
    for folder in folders:
        history = read_finished(folder)
        if not history.evaluations:
            raise UserError(str(folder), "has no complete validation", "set trainer.test_freq above 0 and train")
        last = history.evaluations[-1]
        first = first or last
        yield (
            *(history.name, f"{last.samples}", f"{last.accuracy:.1%}", between(last.interval), f"{last.step}"),
            f"{last.flops:.2e} ({last.flops / first.flops:.0%})",
            f"{last.seconds:.0f} ({last.seconds / first.seconds:.0%})",
            f"{last.mean_length:.0f}" if last.mean_length else "",
        )
