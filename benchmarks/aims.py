"""The aims for speed, and whether the results reach them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.cases import FULL, LARGE, OURS, TINY, VERLS_OWN, Case
from benchmarks.rows import Row, Steps, case_of, every_row, fit_medians, leads, pairs, realised, spread
from benchmarks.verl_run import PHASES, REST
from benchmarks.words import NAMES
from harness.store import Row as Result

NATIVE_TINY, NATIVE_LARGE = 0.7, 0.85
"""Seconds of a step of ours, as a share of one of verl's own trainer, at most."""
FROM_5M = (LARGE, "25M")
"""Models with 5M parameters or more that are compared with TRL."""
REALISED = 0.8
"""Share of seconds saved divided by the share of FLOP saved, at least."""
START_SECONDS, MEMORY_GIB = 100, 8
LINEAR = 0.95
"""The least r² of medians that counts as linear."""
FLAT = 1.05
"""Growth up to this factor counts as noise: medians of a few steps differ by a few per cent."""

Groups = dict[str, tuple[Case, ...]]


@dataclass(frozen=True)
class Aim:
    """One aim and its result."""

    text: str
    found: str = ""
    """The numbers."""
    reached: bool | None = None
    """None if it is not measured, or only a part is measured and that part reaches it."""
    reason: str = ""
    """Why it is not reached or not measured."""

    @property
    def verdict(self) -> str:
        if self.reached is None:
            return "measured in part" if self.found else "not measured"
        return "reached" if self.reached else "not reached"


def aims(groups: Groups, steps: Steps, results: Sequence[Result]) -> list[Aim]:
    native = [(TINY, "on the miniature", NATIVE_TINY), (LARGE, f"with {LARGE} parameters", NATIVE_LARGE)]
    return [
        *(_native(system, *one, groups.get("native", ()), steps) for system in VERLS_OWN for one in native),
        _realised(groups.get("saving", ()), steps),
        _trl(groups.get("trl", ()), steps),
        *_processes(groups.get("processes", ()), results),
        _linear(groups, steps),
        _maximum(groups.get("maximum", ()), steps),
        Aim(
            "GPU: tokens a second and utilisation by phase, caps 256, 1024, 4096",
            reason="this benchmark runs on a CPU: see `benchmarks/run.sh --gpu`",
        ),
    ]


def _judged(text: str, found: Sequence[tuple[str, float, str]], wanted: int, good: Callable[[float], bool]) -> Aim:
    """Reached if all ``wanted`` values are measured and good.

    Args:
        found: (place, value, why the value may not be good). The first value that is not good gives the reason.
    """
    numbers = ", ".join(f"{value:.2f} ({place})" for place, value, _ in found)
    if missed := [reason for _, value, reason in found if not good(value)]:
        return Aim(text, numbers, False, missed[0])
    return Aim(text, numbers, True if found and len(found) == wanted else None)


def _native(system: str, model: str, where: str, limit: float, cases: Sequence[Case], steps: Steps) -> Aim:
    cases = [case for case in cases if case.model == model and case.system in (OURS, system)]
    found = [
        (
            f"cap {ours.cap}",
            ours.seconds.median / native.seconds.median,
            f"cap {ours.cap}: verl's step takes {_spent(native)}; ours takes {_spent(ours)}",
        )
        for ours, (native, *_) in pairs(cases, steps)
    ]
    text = f"Step {where}, same cap: at most {limit} of {NAMES[system]}"
    return _judged(text, found, _caps_beside_ours(cases), lambda ratio: ratio <= limit)


def _realised(cases: Sequence[Case], steps: Steps) -> Aim:
    cases = [case for case in cases if case.model == LARGE]
    found = [
        (f"cap {one.row.cap}", one.share, "")
        for case in cases
        for one in realised(case, steps)
        if one.share is not None
    ]
    text = f"Share of seconds saved / share of FLOP saved, against prefix {FULL}, {LARGE} parameters: at least"
    return _judged(
        f"{text} {REALISED}", found, sum(len(case.caps) - 1 for case in cases), lambda share: share >= REALISED
    )


def _trl(cases: Sequence[Case], steps: Steps) -> Aim:
    cases = [case for case in cases if case.model in FROM_5M]
    found = []
    for lead in leads(cases, steps):
        place, seconds = f"{lead.ours.case.model}, cap {lead.ours.cap}", lead.fastest.seconds.median
        theirs = f"a step of TRL takes {seconds:.2f} s, in one process with all cores"
        found.append((place, lead.ratio, f"{place}: {theirs}; ours takes {_spent(lead.ours)}"))
    text = "Sequences a second / TRL's fastest, from 5M parameters: at least 1"
    return _judged(text, found, _caps_beside_ours(cases), lambda ratio: ratio >= 1)


def _spent(row: Row) -> str:
    """Median seconds of a step and of its phases. verl's rollout phase includes the wait for the next poll."""
    phases = {name: row.phase(name).median for name in (*PHASES.values(), REST)}
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items() if seconds >= 0.01)
    return f"{row.seconds.median:.2f} s: {parts}"


def _caps_beside_ours(cases: Sequence[Case]) -> int:
    return len({(case.model, cap) for case in cases if case.system != OURS for cap in case.caps})


def _processes(cases: Sequence[Case], results: Sequence[Result]) -> list[Aim]:
    start = f"Launch to the end of the first step in at most {START_SECONDS} s"
    memory = f"Peak memory at most {MEMORY_GIB} GiB"
    ours = [case for case in cases if case.system == OURS]
    runs = [result for result in results if "start_up" in result and case_of(result) in ours]
    if not runs:
        return [Aim(start), Aim(memory)]
    seconds = spread([sum(run["start_up"].values()) for run in runs]).median
    gib = spread([run["peak_memory_mib"] / 1024 for run in runs]).median
    return [
        Aim(start, f"{seconds:.1f} s", seconds <= START_SECONDS),
        Aim(memory, f"{gib:.1f} GiB", gib <= MEMORY_GIB),
    ]


def _linear(groups: Groups, steps: Steps) -> Aim:
    text = f"Seconds of a step are linear in L·n·B: r² of the medians at least {LINEAR}"
    ladders: dict[str, list[Row]] = {f"L, {case.model}": every_row([case], steps) for case in groups.get("saving", ())}
    ladders["B"] = every_row(groups.get("rollouts", ()), steps)
    lines = {name: line for name, rows in ladders.items() if (line := fit_medians(rows))}
    if not lines:
        return Aim(text)
    numbers = ", ".join(f"{line.r_squared:.3f} ({name})" for name, line in lines.items())
    return Aim(text, numbers, all(line.slope > 0 and line.r_squared >= LINEAR for line in lines.values()))


def _maximum(cases: Sequence[Case], steps: Steps) -> Aim:
    found = []
    rows = sorted(every_row(cases, steps), key=lambda row: row.case.longest)
    if len(rows) > 1:
        short, long = rows[0].seconds, rows[-1].seconds
        reason = (
            f"quartiles {long.low:.2f} to {long.high:.2f} s against {short.low:.2f} to {short.high:.2f} s, "
            f"of {long.count} and {short.count} steps"
        )
        place = f"{rows[-1].case.longest} against {rows[0].case.longest}"
        found = [(place, long.median / short.median, reason)]
    text = f"Step time with a 4 times longer maximum length: at most {FLAT} times"
    return _judged(text, found, 1, lambda ratio: ratio <= FLAT)
