"""What is measured on GPUs: a case is one run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.cases import NATIVE, NATIVE_POLL, OURS, Case
from benchmarks.models import PAIRS, PAPER_PAIR, REHEARSAL

GPU, CPU = "gpu", "cpu"
SHARED, OWN = "shared", "own"
SYSTEMS = (OURS, NATIVE_POLL, NATIVE)
DEFAULT_SYSTEMS = SYSTEMS[:2]


@dataclass(frozen=True)
class GpuCase(Case):
    """One run of ours or of verl's own trainer. Both may take several caps."""

    model: str = PAPER_PAIR
    """A pair of `benchmarks.models.PAIRS`."""
    prompts: int = 8
    longest: int = 4096
    warm: int = 1
    measured: int = 2
    platform: str = GPU
    """``cpu`` rehearses with tiny models."""
    placement: str = SHARED
    """``shared``: the teacher is on the cards of student and trainer; ``own``: it has a card of its own."""
    words: int = 140
    """Tokens of a user's message."""
    micro_batch: int = 8192
    """Tokens of a micro-batch of the update."""
    given: tuple[str, ...] = ()
    """Further overrides of every system."""

    def __post_init__(self):
        if self.system not in SYSTEMS or self.model not in PAIRS:
            raise ValueError(f"system={self.system!r}, model={self.model!r}: none of {SYSTEMS}, {tuple(PAIRS)}")
        if max(self.caps) > self.longest or self.warm < 1:
            raise ValueError(f"caps={self.caps}, longest={self.longest}, warm={self.warm}: cannot be meant")

    @property
    def cards(self) -> int:
        return self.ranks + (self.placement == OWN)

    @property
    def label(self) -> tuple[str, str]:
        """System, and where the teacher is."""
        cards = f"{self.cards} card{'s' if self.cards > 1 else ''}"
        return self.system, f"{self.placement}, {cards}"

    def at(self, cap: int) -> GpuCase:
        """The part of the case at one cap: what a row is a result of."""
        return replace(self, caps=(cap,))


def cases(cards: int, systems: Sequence[str] = DEFAULT_SYSTEMS, platform: str = GPU, **sizes: Any) -> list[GpuCase]:
    """The runs by value: ours, verl's own, then with two cards ours with a card for the teacher and ours on both.

    Args:
        cards: of the machine.
        sizes: fields of `GpuCase`.
    """
    small = {"model": REHEARSAL, "words": 12, "longest": 16, "prompts": 4, "micro_batch": 512}
    fields = {**(small if platform == CPU else {}), "platform": platform, **sizes}
    fields["longest"] = max(fields.get("longest", GpuCase.longest), *fields["caps"])
    found = [GpuCase(system=system, **fields) for system in systems]
    if platform == GPU and cards > 1 and OURS in systems:
        found += [GpuCase(**{**fields, "system": OURS, **where}) for where in ({"placement": OWN}, {"ranks": 2})]
    return list(dict.fromkeys(found))
