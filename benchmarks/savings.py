"""Tables of what each saving is worth: steps without it and with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.cases import BESIDE, Case
from benchmarks.rows import Row, Spread, Steps, every_row, runs_apart
from benchmarks.words import Section, cell
from harness.page import section
from harness.store import Row as Result


def savings(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    apart = runs_apart(cases, results)
    noise = (
        "" if apart is None else f"\nRuns of one case lay up to {apart:.0%} apart: a smaller difference may be noise."
    )
    rows = [
        [row.case.without, row.cap, *_beside(row.seconds, kept.seconds)]
        for row in every_row([case for case in cases if case.without], steps)
        for kept in every_row([replace(row.case, without="")], steps)
    ]
    return section(
        "What each saving is worth",
        "One saving at a time is switched off, on the miniature's models. All are on by default, except that a CPU\n"
        "run gives each rollout a seed, so that a resumed run draws the same rollouts. Log-probs in blocks cannot\n"
        "be switched off. `savings/README.md` has savings for long prompts and for short rollouts." + noise,
        ["saving", "cap", "step without it, s", "step with it, s", "with / without"],
        rows,
    )


def early(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    strict = {(row.case.model, row.cap): row for row in every_row([case for case in cases if not case.early], steps)}
    rows = [
        [row.case.model, row.cap, *_beside(found.seconds, row.seconds)]
        for row in every_row([case for case in cases if case.early], steps)
        if (found := strict.get((row.case.model, row.cap)))
    ]
    return section(
        "One step early",
        "`prefix_opd.rollout.off_policy_steps=1`: the engines sample the next step during the update. Engines and\n"
        "trainer share the cores here, so only time in which a core would wait can be gained.",
        ["model", "cap", "strict, s", "one step early, s", "early / strict"],
        rows,
    )


def switched(title: str, note: str, phase: str) -> Section:
    """A section on savings that have cases of their own; ``phase`` is the part of a step that they shorten."""

    def section_of(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
        found = {(row.case, row.cap): row for row in every_row(cases, steps)}
        rows = []
        for (case, cap), off in found.items():
            on = found.get((replace(case, without=BESIDE.get(case.without, "")), cap))
            if case.without and on:
                where = [
                    case.model,
                    "–".join(map(str, dict.fromkeys(case.message))) or "short",
                    f"{case.prompts} x {case.rollouts}",
                ]
                rows.append([case.without, *where, f"up to {cap}" if case.natural else cap, *_off_on(off, on, phase)])
        head = ["saving", "model", "message, tokens", "prompts x rollouts", "response, tokens"]
        timed = [f"{what} {side}" for what in ("step", phase) for side in ("off, s", "on, s", "off / on")]
        return section(title, note, [*head, *timed], rows)

    return section_of


def _off_on(off: Row, on: Row, phase: str) -> list[str]:
    parts = (off.seconds, on.seconds), (off.phase(phase), on.phase(phase))
    return [text for one, other in parts for text in (cell(one), cell(other), f"{one.median / other.median:.2f}")]


def _beside(one: Spread, other: Spread) -> list[str]:
    return [cell(one), cell(other), f"{other.median / one.median:.2f}"]
