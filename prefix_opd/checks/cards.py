"""The GPUs of this machine, by nvidia-smi."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

from prefix_opd.base.processes import run
from prefix_opd.cost.arithmetic import ACCELERATORS
from prefix_opd.cost.record import Assumptions

QUERY = "name,memory.total,memory.used,driver_version"


@dataclass(frozen=True)
class Card:
    name: str
    total_mib: float
    used_mib: float
    driver: str


def parse(told: str) -> list[Card]:
    """The cards in the output of ``nvidia-smi --query-gpu=QUERY --format=csv,noheader,nounits``.

    >>> parse("NVIDIA H100 80GB HBM3, 81559, 4, 580.82.07")
    [Card(name='NVIDIA H100 80GB HBM3', total_mib=81559.0, used_mib=4.0, driver='580.82.07')]
    """
    found = []
    for line in told.splitlines():
        fields = [field.strip() for field in line.rsplit(",", 3)]
        try:
            found.append(Card(fields[0], float(fields[1]), float(fields[2]), fields[3]))
        except (IndexError, ValueError):  # a message of the driver, or "[N/A]"
            continue
    return found


def cards_here() -> list[Card]:
    if shutil.which("nvidia-smi") is None:
        return []
    told = run(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"])
    return parse(told.stdout) if told.returncode == 0 else []


def smallest_card() -> Assumptions:
    """A plan's assumptions from this machine's smallest GPU: its memory, and its name if `ACCELERATORS` has it."""
    card = min(cards_here(), key=lambda card: card.total_mib, default=None)
    if card is None:
        return Assumptions()
    words = re.split(r"[\s-]+", card.name.lower().replace("rtx ", "rtx"))
    name = next((known for known in ACCELERATORS if known in words), None)
    return Assumptions(accelerator=name, memory_gib=card.total_mib / 1024)
