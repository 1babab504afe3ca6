"""One model continues the other's prefix (figure 3 and its mirror), before any training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from prefix_opd.analysis.prefixes import KINDS, NOTHING_IS_TRAINED, Prefixes, default_lengths, default_margin


def file_of(kind: str, folder: Path) -> Path:
    """The results file of one of `KINDS`, such as ``teacher_prefix.json``."""
    return folder / f"{kind.replace('-', '_')}.json"


def read(folder: Path) -> dict[str, Prefixes]:
    """Kind -> measured results."""
    files = {kind: file_of(kind, folder) for kind in KINDS}
    return {kind: Prefixes.from_dict(json.loads(file.read_text())) for kind, file in files.items() if file.is_file()}


def measure(kind: str, problems: int, folder: Path) -> None:
    """Measure one of `KINDS` on the first ``problems`` held-out problems. Call this in a separate process."""
    from prefix_opd.analysis import continuation
    from prefix_opd.base.files import write_json
    from prefix_opd.launch import prepare

    config = prepare(["experiment=tiny/full", *NOTHING_IS_TRAINED])
    longest = int(config.data.max_response_length)
    lengths, margin = default_lengths(longest), default_margin(longest)
    found = continuation.measure(kind, config, lengths, margin, problems, samples=1, seed=0)
    # names of the shipped models instead of paths of this machine
    write_json(file_of(kind, folder), replace(found, student="tiny:student", teacher="tiny:teacher").as_dict())
