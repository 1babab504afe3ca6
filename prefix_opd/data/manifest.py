"""``manifest.json``: the contents of a prepared folder, their source, and the settings to reproduce them.

It has no dates and no local paths: the same preparation writes the same bytes.

============ ==========================================================================================================
``dataset``  name of the data set; ``seed``: seed of the sample
``source``   the hub's repository and commit, or the local files
``counts``   rows read, problems selected, long prompts, overlap with evaluation questions (by name, without text)
``files``    file name -> rows, size, SHA-256 (`RowWriter.close`)
``settings`` `PrepareSettings.recorded`
``writer``   the pyarrow version that wrote the files
============ ==========================================================================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.base.redaction import redact
from prefix_opd.data.settings import PrepareSettings

MANIFEST = "manifest.json"
PARQUETS = ("train.parquet", "test.parquet", "sft.parquet")


def as_text(manifest: dict[str, Any]) -> str:
    return redact(json.dumps(manifest, indent=2, ensure_ascii=False)) + "\n"


def _settings_of(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(str(path), f"is not a manifest of this program ({error})") from error


def check_folder(settings: PrepareSettings) -> None:
    """Rejects a folder that contains anything but an earlier run of the same preparation."""
    folder = settings.folder
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}", "is a file", "name a folder")
    if settings.overwrite:
        return
    other_way = "choose another folder with --out, or replace it with --overwrite"
    if not (folder / MANIFEST).exists():
        present = [name for name in PARQUETS if (folder / name).exists()]
        if present:
            raise UserError(f"--out {folder}", f"holds {present[0]} without a {MANIFEST}", other_way)
        return
    have, want = _settings_of(folder), json.loads(json.dumps(settings.recorded()))
    if have != want:
        name = next(name for name in want | have if have.get(name) != want.get(name))
        raise UserError(
            f"--out {folder}",
            f"holds another preparation ({name}={have.get(name)!r}, asked for {want.get(name)!r})",
            other_way,
        )
