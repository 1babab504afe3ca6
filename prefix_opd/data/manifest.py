"""The manifest: the contents of a prepared folder, their source, and the settings to reproduce them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.base.redaction import redact
from prefix_opd.data.files import FileRecord
from prefix_opd.data.settings import PrepareSettings

MANIFEST = "manifest.json"
PARQUETS = ("train.parquet", "test.parquet", "sft.parquet")


@dataclass(frozen=True)
class Manifest:
    """One preparation, without dates and local paths: the same preparation writes the same bytes."""

    dataset: str
    seed: int
    source: dict[str, Any]
    """The hub's repository and commit, or the local files."""
    counts: dict[str, Any]
    """Rows read, problems selected, long prompts, overlap with evaluation questions (by name, without text)."""
    files: dict[str, FileRecord]
    """File name -> rows, size, SHA-256."""
    settings: dict[str, Any]
    """``PrepareSettings.recorded()``."""
    writer: str
    """The pyarrow version that wrote the files."""

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return redact(json.dumps(asdict(self), indent=2, ensure_ascii=False)) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a prepared folder."""
        path = Path(folder) / MANIFEST
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            files = {name: FileRecord(**record) for name, record in fields.pop("files").items()}
            return cls(files=files, **fields)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
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
    have, want = Manifest.read(folder).settings, json.loads(json.dumps(settings.recorded()))
    if have != want:
        name = next(name for name in want | have if have.get(name) != want.get(name))
        raise UserError(
            f"--out {folder}",
            f"holds another preparation ({name}={have.get(name)!r}, asked for {want.get(name)!r})",
            other_way,
        )
