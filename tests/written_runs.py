"""Run folders written by hand, for tests of their readers."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.config.compose import compose
from prefix_opd.method import names

ACCURACY, ANSWER_LENGTH = "val-core/tiny/chain/reward/mean@1", "val-aux/tiny/chain/response_length/mean@1"


@functools.cache
def _tiny() -> DictConfig:
    config = compose(["experiment=tiny/schedule"])
    OmegaConf.resolve(config)
    return config


def write_run(folder: Path, lines: list[dict[str, Any]], **settings: Any) -> Path:
    """A run of the tiny experiment, named after its folder, with these metrics. ``settings`` are config keys."""
    (folder / "validation").mkdir(parents=True)
    config = copy.deepcopy(_tiny())
    for key, value in {"trainer.experiment_name": folder.name, **settings}.items():
        OmegaConf.update(config, key, value, force_add=True)
    OmegaConf.save(config, folder / "config.yaml")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        if ACCURACY in line:
            answers = [{"input": f"{i}+1=", "output": "?", "gts": f"{i + 1}", "score": 0.0} for i in range(64)]
            text = "".join(json.dumps(answer) + "\n" for answer in answers)
            (folder / "validation" / f"{line['step']}.jsonl").write_text(text)
    return folder


def update(step: int, flops: float, cap: int = 24, **more: Any) -> dict[str, Any]:
    """The metrics of one update."""
    return {
        "step": step,
        names.PREFIX_LENGTH: cap,
        names.RESPONSE_LENGTH: cap - 1.0,
        names.CUT: 0.75,
        names.NATURAL: 0.25,
        names.FLOPS: flops,
        names.FLOPS_PAPER: flops / 2,
        names.SECONDS_STEP: 2.0,
        names.seconds("rollout"): 1.0,
        names.TOKENS_SCORED: 100,
        names.TOKENS_GENERATED: 80,
        **more,
    }


def binned(values: dict[str, dict[int, tuple[float, float, int]]]) -> dict[str, float]:
    """Metrics of one step: group -> {first position: (mean, magnitude, tokens)}."""
    found = {}
    for group, bins in values.items():
        for first, of_bin in bins.items():
            found |= {f"{prefix}{first}": value for prefix, value in zip(names.by_position(group), of_bin, strict=True)}
    return found


SIGNAL = {
    "all": {0: (0.5, 1.0, 6), 12: (0.1, 0.3, 2)},
    "cut": {0: (0.5, 1.0, 4), 12: (0.1, 0.3, 2)},
    "natural": {0: (0.5, 1.0, 2)},
    "probe": {0: (0.2, 0.4, 4), 24: (0.8, 0.9, 1)},
}
