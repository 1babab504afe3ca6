"""The results as a markdown page: medians with quartiles over all measured steps of all repetitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.cases import NATIVE, OURS, Case
from benchmarks.statistics import Line, Spread, fit_line, spread
from benchmarks.store import Result

NAMES = {
    OURS: "ours",
    NATIVE: "verl's own OPD",
    "trl_gkd": "TRL GKD",
    "trl_distillation": "TRL Distillation",
    "trl_iw_opd": "TRL IW-OPD",
}

Steps = dict[tuple[Case, int], list[dict]]
"""Measured steps by case and cap."""


def measured_steps(results: Iterable[Result]) -> Steps:
    """The steps that count, of all repetitions together."""
    found: Steps = defaultdict(list)
    for result in results:
        case = _case(result)
        for step in result.get("steps", ()):
            if step["counts"]:
                found[case, step["cap"]].append(step)
    return dict(found)


def _case(result: Result) -> Case:
    return Case(**{**result["case"], "caps": tuple(result["case"]["caps"])})


def table(results: Sequence[Result], groups: dict[str, tuple[Case, ...]], plots: dict[str, Path]) -> str:
    """The whole page. ``plots`` are pictures by group, beside the page."""
    steps = measured_steps(results)
    parts = [_head(results)]
    for name, section in SECTIONS.items():
        if name not in groups:
            continue
        text = section(groups[name], steps, results)
        if not text:
            continue
        picture = f"\n\n![{name}]({plots[name].name})" if name in plots else ""
        parts.append(text + picture)
    parts.append(_failures(results))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Sequence[Result]) -> str:
    last = results[-1]
    machine = last["machine"]
    releases = ", ".join(f"{name} {release}" for name, release in last["versions"].items())
    loads = [result["load"] for result in results]
    return (
        "# Benchmarks\n\n"
        "Made by `bash benchmarks/run.sh`; every run is a line of `results.jsonl`. A cell is a median with its\n"
        "quartiles over the measured steps of all repetitions. Every response is exactly as long as the cap: end\n"
        "tokens are ignored, by all systems alike.\n\n"
        f"Commit {last['commit']}, {results[0]['date'][:10]} to {last['date'][:10]}, "
        f"{max(result['repetition'] for result in results)} repetition(s) in turn. {machine['cpu']},\n"
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, no GPU; the machine's load "
        f"before a run was {min(loads):g} to {max(loads):g}.\n{releases}."
    )


def _native(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    rows = []
    phases = sorted({phase for found in steps.values() for step in found for phase in step["phases"]}, key=_phase_order)
    for case, cap, found in _found(cases, steps):
        medians = [_median(found, lambda step, phase=phase: step["phases"][phase]) for phase in phases]
        rows.append([cap, NAMES[case.system], _cell(_seconds(found)), *(f"{value:.3f}" for value in medians)])
    return _section(
        "Against verl's own on-policy distillation",
        "Seconds a step, and the medians of its phases. Same models, prompts, engines, optimiser and cap; trainer,\n"
        "agent loop and loss differ. The native run computes the old log-probs, rewards every rollout, and looks for\n"
        "finished rollouts every 2 s, as verl does by default.",
        ["cap", "system", "step, s", *(f"{phase}, s" for phase in phases)],
        rows,
    )


def _trl(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    rows = [
        [
            cap,
            NAMES[case.system],
            _cell(_seconds(found)),
            _cell(spread([step["sequences"] / step["seconds"] for step in found]), digits=1),
            _cell(spread([step["tokens"] / step["seconds"] for step in found]), digits=0),
        ]
        for case, cap, found in _found(cases, steps)
    ]
    return _section(
        "Against TRL's on-policy trainers",
        "One process that samples with transformers' `generate`; whole-vocabulary reverse KL (GKD, Distillation) or\n"
        "its importance-weighted sampled form (IW-OPD). No engine, no Ray, no second process: on models this small,\n"
        "what is left is nearly the models alone.",
        ["cap", "system", "step, s", "sequences/s", "response tokens/s"],
        rows,
    )


def _saving(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    found = list(_found(cases, steps))
    if not found:
        return ""
    _, _, longest = max(found, key=lambda row: row[1])
    full_flops, full_seconds = _median(longest, _flops), _seconds(longest).median
    rows = [
        [
            cap,
            _cell(_seconds(steps_of)),
            f"{_seconds(steps_of).median / full_seconds:.2f}",
            f"{_median(steps_of, _flops) / full_flops:.2f}",
        ]
        for _, cap, steps_of in found
    ]
    return _section(
        "What a shorter prefix saves",
        "Of the step's seconds, and of its FLOP (`prefix_opd.flops`, prompts counted), both against the longest cap. "
        + _fit_sentence(
            [step for _, _, steps_of in found for step in steps_of], "tokens", 1000, "1000 response tokens"
        ),
        ["cap", "step, s", "share of the longest's seconds", "share of its FLOP"],
        rows,
    )


def _scaling(title: str, note: str) -> Callable[[Sequence[Case], Steps, Sequence[Result]], str]:
    def section(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
        found = list(_found(cases, steps))
        rows = [
            [
                case.model,
                case.sequences,
                cap,
                case.ranks,
                _cell(_seconds(steps_of)),
                f"{_median(steps_of, _flops):.2e}",
                f"{_median(steps_of, _flops) / _seconds(steps_of).median / 1e9:.2f}",
            ]
            for case, cap, steps_of in found
        ]
        fit = _fit_sentence([step for _, _, steps_of in found for step in steps_of], "flops", 1e12, "TFLOP")
        return _section(
            title,
            f"{note} {fit}",
            ["model", "rollouts", "cap", "ranks", "step, s", "FLOP a step", "GFLOP/s"],
            rows,
        )

    return section


def _processes(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    parts = []
    for case in cases:
        runs = [result for result in results if _case(result) == case and "start_up" in result]
        if not runs:
            continue
        phases = {name: spread([run["start_up"][name] for run in runs]) for name in runs[0]["start_up"]}
        total = spread([sum(run["start_up"].values()) for run in runs])
        peak = spread([run["peak_memory_mib"] for run in runs])
        start = [[name, _cell(value, digits=1)] for name, value in phases.items()]
        parts.append(
            _section(
                f"Start-up and memory: {NAMES[case.system]}",
                f"From launch to the end of the first step {_cell(total, digits=1)} s; peak of all processes together "
                f"{_cell(peak, digits=0)} MiB (proportional set size: shared pages count once).",
                ["phase", "s"],
                start,
            )
        )
        rows = [
            [row["name"], row["count"], row["memory_mib"], row["cpu_seconds"]]
            for row in runs[-1]["processes"]
            if row["memory_mib"] >= 5 or row["cpu_seconds"] >= 0.5
        ]
        parts.append(
            _grid(["process (last run)", "count", "most memory, MiB", "CPU s until the first step's end"], rows)
        )
    return "\n\n".join(parts)


SECTIONS: dict[str, Callable[[Sequence[Case], Steps, Sequence[Result]], str]] = {
    "native": _native,
    "trl": _trl,
    "saving": _saving,
    "rollouts": _scaling("Rollouts a step", "The miniature's models."),
    "length": _scaling("Response length", "A larger model of random weights."),
    "size": _scaling("Model size", "Random weights, student and teacher alike."),
    "ranks": _scaling("Ranks", "FSDP2 over gloo; each rank brings an engine of its own, and the cores stay the same."),
    "processes": _processes,
}
"""What is written of each group."""


def _fit_sentence(steps: Sequence[dict], what: str, unit: float, unit_name: str) -> str:
    """seconds = fixed + slope x, in words; empty where there is one x alone."""
    try:
        line = fit_line([step[what] / unit for step in steps], [step["seconds"] for step in steps])
    except ValueError:
        return ""
    return fit_words(line, unit_name)


def fit_words(line: Line, unit_name: str) -> str:
    """The fixed cost of a step by name, and where the variable one overtakes it."""
    sentence = (
        f"Least squares over all measured steps: {line.fixed:.2f} s fixed + {line.slope:.3f} s for each {unit_name} "
        f"(r² {line.r_squared:.2f})"
    )
    if line.even is None:
        return sentence + "."
    return sentence + f"; the two are even at {line.even:.3g} {unit_name}."


def _found(cases: Sequence[Case], steps: Steps) -> Iterable[tuple[Case, int, list[dict]]]:
    for case in cases:
        for cap in case.caps:
            if (case, cap) in steps:
                yield case, cap, steps[case, cap]


def _seconds(steps: Sequence[dict]) -> Spread:
    return spread([step["seconds"] for step in steps])


def _flops(step: dict) -> float:
    return step["flops"]


def _median(steps: Sequence[dict], value: Callable[[dict], float]) -> float:
    return spread([value(step) for step in steps]).median


def _phase_order(phase: str) -> int:
    from benchmarks.verl_run import PHASES, REST

    return [*PHASES.values(), REST].index(phase)


def _cell(value: Spread, digits: int = 3) -> str:
    return f"{value.median:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"


def _section(title: str, note: str, head: Sequence[str], rows: Sequence[Sequence]) -> str:
    return f"## {title}\n\n{note}\n\n{_grid(head, rows)}" if rows else ""


def _grid(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _failures(results: Sequence[Result]) -> str:
    failed = [f"- {_case(r).name}, repetition {r['repetition']}: {r['error']}" for r in results if "error" in r]
    return "## Runs that failed\n\n" + "\n".join(failed) if failed else ""
