"""``${tiny:NAME}`` in a config: paths of the miniature's models and data."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError

DATA_VERSION = "8cefe92fe314"
"""Names the folder of the data. Change it with the data, so that a run never meets the data of another release."""
MODELS = ("student", "teacher", "reader")
DATA = ("train", "train_hinted", "train_two_sources", "test")


def tiny_path(name: str) -> str:
    """The path of one of the miniature's `MODELS` and `DATA`.

    Models ship with the package. Data is written to the user's cache folder on first use, always the same bytes.
    """
    from prefix_opd.miniature import shipped_models

    if name in MODELS:
        return str(shipped_models()[name])
    if name not in DATA:
        raise UserError(
            f"${{tiny:{name}}}", "is not a part of the miniature", f"use one of {', '.join((*MODELS, *DATA))}"
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "prefix_opd" / f"tiny-{DATA_VERSION}"
    file = folder / f"{name}.parquet"
    if not file.exists():
        from prefix_opd.miniature.data import write_data

        write_data(folder)
    return str(file)


def register_resolver() -> None:
    """Register ``${tiny:NAME}`` with OmegaConf."""
    OmegaConf.register_new_resolver("tiny", tiny_path, replace=True)
