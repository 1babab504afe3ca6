"""The results as a markdown page: medians with quartiles over all measured steps of all repetitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.aims import aims
from benchmarks.cases import NATIVE_POLL, TRL, VERLS_OWN, Case
from benchmarks.rows import (
    Row,
    Steps,
    at_common_caps,
    case_of,
    fit,
    leads,
    measured_steps,
    pairs,
    realised,
    side_by_side,
    spread,
)
from benchmarks.savings import early, savings, switched
from benchmarks.verl_run import PHASES, REST
from benchmarks.words import NAMES, Section, cell, crossover_words, fit_words, fixed_cost_words, started
from harness.page import grid, section
from harness.store import Row as Result


def table(results: Sequence[Result], groups: dict[str, tuple[Case, ...]], plots: dict[str, Path]) -> str:
    """The whole page: every group that has results. ``plots`` are pictures by group, beside the page."""
    steps = measured_steps(results)
    found = aims(groups, steps, results)
    rows = [[aim.text, aim.found or "–", aim.verdict, aim.reason or "–"] for aim in found]
    parts = [
        _head(results),
        section("Aims", "", ["aim", "found", "verdict", "reason"], rows if any(aim.found for aim in found) else []),
    ]
    for name, write in SECTIONS.items():
        text = write(groups[name], steps, results) if name in groups else ""
        if text:
            parts.append(text + (f"\n\n![{name}]({plots[name].name})" if name in plots else ""))
    parts.append(_failures(results))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Sequence[Result]) -> str:
    last = results[-1]
    machine = last["machine"]
    loads = [result["load"] for result in results]
    return (
        "# Benchmarks\n\n"
        "Written by `bash benchmarks/run.sh`. Every run is a line of `results.jsonl`. A cell is the median and the\n"
        "quartiles over the measured steps of all repetitions. A step lasts from the end of the previous step to its\n"
        "own end. In all systems end tokens are ignored, so every response has exactly the cap's length. One run of\n"
        "ours may take several caps, by its schedule. The first steps at a cap are warm-up and do not count.\n\n"
        f"Commit {last['commit']}, {results[0]['date'][:10]} to {last['date'][:10]}, "
        f"{_repetitions(results)} in turn. {machine['cpu']},\n"
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, no GPU; the machine's load "
        f"before a run was {min(loads):g} to {max(loads):g}.\n{_releases(results)}"
    )


def _repetitions(results: Sequence[Result]) -> str:
    """The least and the most repetitions of a case."""
    often = Counter(result["key"] for result in results).values()
    words = f"{min(often)} to {max(often)}" if min(often) < max(often) else f"{max(often)}"
    return f"{words} repetition{'s' if max(often) > 1 else ''}"


def _releases(results: Sequence[Result]) -> str:
    """Releases of the runs of verl and of TRL; a failed run has none."""
    lines = []
    for name, of_trl in (("verl", False), ("TRL", True)):
        runs = [run for run in results if (run["case"]["system"] in TRL) is of_trl and "error" not in run]
        if runs:
            releases = ", ".join(f"{package} {release}" for package, release in runs[-1]["versions"].items())
            lines.append(f"Runs of {name}: {releases}.")
    return "\n".join(lines)


COLUMNS: dict[str, Callable[[Row], object]] = {
    "model": lambda row: row.case.model,
    "rollouts": lambda row: row.case.sequences,
    "cap": lambda row: row.cap,
    "maximum": lambda row: row.case.longest,
    "ranks": lambda row: row.case.ranks,
    "system": lambda row: NAMES[row.case.system],
    "step, s": lambda row: cell(row.seconds),
    **{f"{phase}, s": lambda row, phase=phase: f"{row.phase(phase).median:.3f}" for phase in (*PHASES.values(), REST)},
    "sequences/s": lambda row: cell(row.sequences, digits=1),
    "response tokens/s": lambda row: cell(row.spread(lambda step: step["tokens"] / step["seconds"]), digits=0),
    "FLOP a step": lambda row: f"{row.flops:.2e}",
    "GFLOP/s": lambda row: f"{row.flops / row.seconds.median / 1e9:.2f}",
}
"""All columns that a table may have."""


def _of_rows(title: str, note: str, columns: Sequence[str], rows: Sequence[Row]) -> str:
    """A section whose columns are some of `COLUMNS`."""
    return section(title, note, columns, [[COLUMNS[name](row) for name in columns] for row in rows])


def _native(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    return _of_rows(
        "Against verl's own on-policy distillation",
        f"{_ratios(cases, steps)}\n\n"
        "Our trainer polls for finished rollouts every 0.05 s. verl's own polls every 2 s and has no setting for it;\n"
        "with poll 0.05 s its interval is set to ours, so that row shows the effect of all other differences.\n"
        "verl's own trainer also makes a pass for the old log-probs and computes a reward for every rollout. Models,\n"
        "prompts, engines, optimiser and cap are the same. All rows use this package's CPU platform, processes forked\n"
        "from one that has imported everything, and log-probs computed in blocks. No rollout has a seed of its own,\n"
        "although that is our default on a CPU. Phases are medians of verl's timers; `rest` is the remainder.",
        ["model", "cap", "system", "step, s", *(f"{phase}, s" for phase in (*PHASES.values(), REST))],
        side_by_side(cases, steps),
    )


def _ratios(cases: Sequence[Case], steps: Steps) -> str:
    """Our step's share of verl's, by system; the fair comparison first."""
    lines = []
    for system in VERLS_OWN:
        found = [
            f"{ours.seconds.median / row.seconds.median:.2f} ({ours.case.model}, cap {ours.cap})"
            for ours, others in pairs(cases, steps)
            for row in others
            if row.case.system == system
        ]
        if found:
            lines.append(f"- Step time, ours / {NAMES[system]}: {', '.join(found)}")
        elif system == NATIVE_POLL:
            lines.append(f"- Step time, ours / {NAMES[system]}: not measured at this commit")
    return "\n".join(lines)


def _trl(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    return _of_rows(
        "Against TRL's on-policy trainers",
        "TRL samples with transformers' `generate` in one process, without engine and without Ray, so it has almost\n"
        "no fixed cost on small models. GKD and Distillation use reverse KL over the whole vocabulary; IW-OPD uses\n"
        "its importance-weighted sampled form. Larger models are measured with GKD only.\n\n"
        f"{crossover_words(leads(cases, steps))}".rstrip(),
        ["model", "cap", "system", "step, s", "sequences/s", "response tokens/s"],
        side_by_side(cases, steps),
    )


def _saving(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    rows, fits = [], []
    for case in cases:
        found = realised(case, steps)
        rows += [
            [
                case.model,
                one.row.cap,
                cell(one.row.seconds),
                f"{one.seconds:.2f}",
                f"{one.flops:.2f}",
                "–" if one.share is None else f"{one.share:.2f}",
            ]
            for one in found
        ]
        fits += [f"- {case.model}: {fixed_cost_words([one.row for one in found])}"] if found else []
    return section(
        "What a shorter prefix saves",
        "Seconds and FLOP of a step (`prefix_opd/method/flops.py`, prompts included), each relative to the longest\n"
        "cap. The last column is the share of seconds saved divided by the share of FLOP saved.\n\n" + "\n".join(fits),
        ["model", "cap", "step, s", "share of the longest's seconds", "share of its FLOP", "FLOP saving realised"],
        rows,
    )


def _scaling(title: str, note: str, fitted: bool = True) -> Section:
    def section_of(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
        rows = at_common_caps(cases, steps)
        line = fit_words(fit(rows, "flops"), 1e12, "TFLOP") if fitted else ""
        columns = ["model", "rollouts", "cap", "maximum", "ranks", "step, s", "FLOP a step", "GFLOP/s"]
        return _of_rows(title, f"{note} {line}".rstrip(), columns, rows)

    return section_of


def _processes(cases: Sequence[Case], steps: Steps, results: Sequence[Result]) -> str:
    parts = []
    for case in cases:
        runs = [result for result in results if case_of(result) == case and "start_up" in result]
        if not runs:
            continue
        total = spread([sum(run["start_up"].values()) for run in runs])
        peak = spread([run["peak_memory_mib"] for run in runs])
        phases = [
            [name, cell(spread([run["start_up"][name] for run in runs]), digits=1)] for name in runs[0]["start_up"]
        ]
        title = f"Start-up and memory: {NAMES[case.system]}"
        note = (
            f"From launch to the end of the first step {cell(total, digits=1)} s; peak of all processes together "
            f"{cell(peak, digits=0)} MiB (proportional set size: shared pages count once)."
        )
        rows = [
            [row["name"], row["count"], started(*row["started"]), row["memory_mib"], row["cpu_seconds"]]
            for row in runs[-1]["processes"]
            if row["memory_mib"] >= 5 or row["cpu_seconds"] >= 0.5
        ]
        head = ["process (last run)", "count", "started, s after launch", "most memory, MiB"]
        parts += [
            section(title, note, ["phase", "s"], phases),
            grid([*head, "CPU s until the first step's end"], rows),
        ]
    return "\n\n".join(parts)


SECTIONS: dict[str, Section] = {
    "native": _native,
    "trl": _trl,
    "saving": _saving,
    "savings": savings,
    "update": switched(
        "An update with fewer tokens",
        "One saving at a time is switched off. Rows without prompts computed once pad whole sequences, so they also\n"
        "compare splitting by length. Responses `up to` a length end where the model ends them.",
        "update",
    ),
    "transport": switched(
        "Fewer calls around a rollout",
        "Many short rollouts; one saving at a time is switched off.",
        "rollout and teacher",
    ),
    "placement": switched(
        "Where the teacher lives",
        "Off: the teacher shares the trainer's device (`prefix_opd.teacher.placement=shared`). It scores rollouts as\n"
        "they end, or after the last one. On a CPU all share the same cores in both cases.",
        "rollout and teacher",
    ),
    "early": early,
    "rollouts": _scaling("Rollouts a step", "The miniature's models."),
    "length": _scaling("Response length", "A larger model of random weights."),
    "size": _scaling("Model size", "Random weights, student and teacher alike."),
    "ranks": _scaling(
        "Ranks", "FSDP2 over gloo. Each rank has its own engine; all ranks share the same cores.", fitted=False
    ),
    "maximum": _scaling(
        "The configured maximum length",
        "`data.max_response_length` and the engines' context, far above the cap.",
        fitted=False,
    ),
    "processes": _processes,
}
"""The section of each group."""


def _failures(results: Sequence[Result]) -> str:
    failed = [f"- {case_of(r).name}, repetition {r['repetition']}: {r['error']}" for r in results if "error" in r]
    return "## Runs that failed\n\n" + "\n".join(failed) if failed else ""
