"""The page of the GPU benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cases import OURS
from benchmarks.gpu.cards import peak_flops
from benchmarks.gpu.cases import GpuCase
from benchmarks.rows import Row, case_of
from benchmarks.verl_run import PHASES, REST
from benchmarks.words import NAMES
from harness.page import grid, section
from harness.store import Row as Result

FLOPS_OF = {
    "rollout and teacher": ("sampling", "teacher_scoring"),
    "old log-probs": ("student_scoring",),
    "update": ("update",),
}
"""Phase -> the parts of `prefix_opd.method.flops.StepFlops` that it computes."""


def latest(rows: Sequence[Result]) -> list[Result]:
    """The rows of the commit that was measured last. Of two rows of a case, the one with more steps, then the later."""
    kept: dict[tuple, Result] = {}
    for row in rows:
        place = row["key"], tuple(row["cards"])
        if row["commit"] == rows[-1]["commit"] and _counted(row) >= _counted(kept.get(place, {"steps": []})):
            kept[place] = row
    return list(kept.values())


def _counted(row: Result) -> int:
    return sum(step["counts"] for step in row["steps"])


@dataclass(frozen=True)
class Measured(Row):
    """The measured steps of a line of the store."""

    stored: Result

    @classmethod
    def of(cls, stored: Result) -> Measured:
        case = case_of(stored, GpuCase)
        return cls(case, case.caps[0], [step for step in stored["steps"] if step["counts"]], stored)

    @property
    def tokens(self) -> float:
        """Response tokens a second."""
        return self.spread(lambda step: step["tokens"] / step["seconds"]).median

    def mfu(self, phase: str | None = None) -> str:
        """FLOP a second of a phase, or of the whole step, as a share of the cards' peak."""
        peak = next(map(peak_flops, self.stored["cards"]), None)
        if phase is None:
            flops, seconds = self.flops, self.seconds.median
        else:
            parts = FLOPS_OF[phase]
            flops = self.spread(lambda step: sum(step["flops_by_phase"][part] for part in parts)).median
            seconds = self.phase(phase).median
        return f"{flops / (seconds * peak * self.case.cards):.1%}" if peak and seconds > 0 else "–"

    def memory(self, name: str) -> str:
        found = [step[name] for step in self.steps if step[name] is not None]
        return f"{max(found):.1f}" if found else "–"

    @property
    def named(self) -> list[str]:
        system, placement = self.case.label
        return [NAMES[system], placement]


def page(rows: Sequence[Result], runs: Sequence[GpuCase], update: str) -> str:
    """The whole page.

    Args:
        rows: of one commit.
        runs: what was to be measured.
        update: sections of `benchmarks.update`; empty if it did not run.
    """
    measured = (Measured.of(row) for row in rows if _counted(row))
    found = sorted(measured, key=lambda one: (one.cap, one.case.cards, one.named))
    parts = [_head(found[-1], rows), _steps(found), _ratios(found), _savings(found), _launch(rows), update.strip()]
    parts.append(_missing(found, runs))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(last: Measured, rows: Sequence[Result]) -> str:
    row, case = last.stored, last.case
    cards = ", ".join(row["cards"]) or f"no GPU: a rehearsal on {row['machine']['cpu']}"
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    given = f", then these overrides of both: `{' '.join(case.given)}`." if case.given else "."
    least = min(counted for row in rows if (counted := _counted(row)))
    return (
        "# GPU benchmark\n\n"
        "Written by `bash benchmarks/run.sh --gpu`. Every cap of a run is a line of `gpu.jsonl`. Models have random\n"
        "weights of published shapes. End tokens are ignored, so each response has exactly the cap's length. Both\n"
        "systems have the same models, prompts, engines, attention, micro-batches and placement of the teacher.\n"
        "verl's own trainer polls for finished rollouts every 0.05 s, as ours does, or every 2 s, its default. A cell\n"
        f"is the median of at least {least} steps after a warm-up step. MFU is the FLOP of\n"
        "`prefix_opd/method/flops.py` over seconds and dense bf16 peak; gradient checkpointing is not counted. Memory\n"
        "is the most that nvidia-smi saw on a card, of all processes.\n\n"
        f"Commit {row['commit'] or 'unknown'}, {row['date'][:10]}. {cards}; {row['machine']['cores']} cores, "
        f"{row['machine']['memory_gib']} GiB.\n{versions}.\n"
        f"Models {case.model}, {case.prompts} prompts x {case.rollouts} rollouts, prompts of {case.words} words, "
        f"micro-batches of {case.micro_batch} tokens{given}"
    )


def _steps(found: Sequence[Measured]) -> str:
    phases = (*PHASES.values(), REST)
    head = ["cap", "system", "teacher", "step, s", *(f"{phase}, s" for phase in phases)]
    times = [
        [one.cap, *one.named, f"{one.seconds.median:.2f}", *(f"{one.phase(phase).median:.2f}" for phase in phases)]
        for one in found
    ]
    rates = [
        [
            *(one.cap, *one.named, f"{one.tokens:.0f}", one.mfu(), *(one.mfu(phase) for phase in FLOPS_OF)),
            *(one.memory("memory_gib"), one.memory("trainer_gib")),
        ]
        for one in found
    ]
    rate_head = ["cap", "system", "teacher", "response tokens/s", "MFU of the step", *(f"MFU, {p}" for p in FLOPS_OF)]
    rate_head += ["peak memory of a card, GiB", "of it the trainer, GiB"]
    return f"## Seconds by phase\n\n{grid(head, times)}\n\n## Rates and memory\n\n{grid(rate_head, rates)}"


def _ratios(found: Sequence[Measured]) -> str:
    """Ours against each of verl's own at the same cap and placement; shared against own with two cards."""
    rows = []
    for one in found:
        for other in found:
            same = one.cap == other.cap and one.case.system == OURS
            if same and other.case.system != OURS and one.case.label[1] == other.case.label[1]:
                rows.append([one.cap, f"ours / {other.named[0]}", one.named[1], *_shares(one, other)])
            if same and other.case.system == OURS and one.case.placement == "shared" and other.case.placement == "own":
                rows.append([one.cap, f"{one.named[1]} / {other.named[1]}", "", *_shares(one, other)])
    return section("Ratios of seconds", "", ["cap", "ratio", "teacher", "step", "update"], rows)


def _shares(one: Measured, other: Measured) -> list[str]:
    spreads = (one.seconds, other.seconds), (one.phase("update"), other.phase("update"))
    return [f"{ours.median / theirs.median:.2f}" for ours, theirs in spreads]


def _savings(found: Sequence[Measured]) -> str:
    """Seconds and FLOP relative to the longest cap of the same system and placement."""
    rows = []
    for one in found:
        full = max((other for other in found if other.named == one.named), key=lambda other: other.cap)
        if one.cap < full.cap:
            seconds, flops = one.seconds.median / full.seconds.median, one.flops / full.flops
            share = f"{(1 - seconds) / (1 - flops):.2f}"
            rows.append([one.cap, *one.named, full.cap, f"{seconds:.2f}", f"{flops:.2f}", share])
    head = ["cap", "system", "teacher", "against cap", "share of its seconds", "share of its FLOP", "saving realised"]
    return section("What a shorter prefix saves", "", head, rows)


def _launch(rows: Sequence[Result]) -> str:
    """One line for each run: the rows of its caps have the same launch."""
    found = {}
    for row in rows:
        if "launch" in row:
            marks = "; ".join(f"{text}: {at:.0f}" for text, at in row.get("milestones", {}).items())
            found[row["date"], row["case"]["system"]] = [*Measured.of(row).named, f"{row['launch']:.0f}", marks or "–"]
    head = ["system", "teacher", "launch to the end of the first step, s", "milestones, s after launch"]
    return section("Start of a run", "", head, list(found.values()))


def _missing(found: Sequence[Measured], runs: Sequence[GpuCase]) -> str:
    there = {one.case.key() for one in found}
    rows = [
        [NAMES[case.system], case.label[1], cap]
        for case in runs
        for cap in case.caps
        if case.at(cap).key() not in there
    ]
    return section("Not measured", "", ["system", "teacher", "cap"], rows)
