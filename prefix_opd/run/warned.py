"""The warnings of a run's trainer, picked out of its log while it grows, each of them once."""

from __future__ import annotations

import re
from pathlib import Path

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_OURS = re.compile(r"^(?:\(\w+ [^)]*\) )?WARNING: (step \d+: .*)$")
"""A line as `prefix_opd.base.logs` writes it, with what Ray puts before a line of another process."""


class NewWarnings:
    """Reads on from where it stopped."""

    def __init__(self, log: Path, start: int):
        """``start``: where this run's part of the log begins, bytes."""
        self.log, self.position, self.told = log, start, set()

    def take(self) -> list[str]:
        """What the trainer has warned of since the last call: watchers, batches thrown away, skipped probes."""
        with self.log.open("rb") as file:
            file.seek(self.position)
            read = file.read()
        whole = read[: read.rfind(b"\n") + 1]  # the last line may still be being written
        self.position += len(whole)
        found = []
        for line in whole.decode(errors="replace").splitlines():
            match = _OURS.match(_ANSI.sub("", line))
            if match and match[1] not in self.told:
                self.told.add(match[1])
                found.append(match[1])
        return found
