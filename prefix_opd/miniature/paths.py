"""``${tiny:NAME}`` in a config: paths of the miniatures' models and data."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.miniature import MODELS, TASKS, shipped_models

DATA_VERSION = "8cefe92fe314"
"""Names the folder of the data. Change it with the data, so that a run never meets the data of another release."""
DATA = {
    "train": ("chain", "train"),
    "train_hinted": ("chain", "train_hinted"),
    "train_two_sources": ("chain", "train_two_sources"),
    "test": ("chain", "test"),
    "cells_train": ("cells", "train"),
    "cells_test": ("cells", "test"),
}
"""Name -> task, and name of the file without its ending."""


def tiny_path(name: str) -> str:
    """The path of one of the miniatures' models and `DATA`.

    Models ship with the package. Data is written to the user's cache folder on first use, always the same bytes.
    """
    if name in MODELS:
        return str(shipped_models()[name])
    if name not in DATA:
        raise UserError(
            f"${{tiny:{name}}}", "is not a part of the miniature", f"use one of {', '.join((*MODELS, *DATA))}"
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    task, split = DATA[name]
    folder = cache / "prefix_opd" / f"{'tiny' if task == 'chain' else task}-{DATA_VERSION}"
    file = folder / f"{split}.parquet"
    if not file.exists():
        from prefix_opd.miniature.data import write_data

        write_data(folder, task=TASKS[task])
    return str(file)


def register_resolver() -> None:
    """Register ``${tiny:NAME}`` with OmegaConf."""
    OmegaConf.register_new_resolver("tiny", tiny_path, replace=True)
