"""``results.md``: the paper's table beside ours, finding by finding, from the records alone."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefix_opd.analysis.tables import advice
from prefix_opd.method.paper import TABLE, PaperRow
from reproduction import prefixes
from reproduction.arms import ARMS, SEQUENCES, Arm
from reproduction.curves import Place
from reproduction.figures import COMPUTE, OTHERS, PREFIXES, SCHEDULE, SIGNAL, TAIL, draw_all
from reproduction.findings import FINDINGS, Evidence, half_gain_costs
from reproduction.record import Record

REPORT_FILE = "results.md"
CAPTIONS = {
    SIGNAL: "signal by position",
    TAIL: "the signal beyond the prefix",
    PREFIXES["teacher-prefix"]: "a teacher's prefix, continued by the untrained student",
    PREFIXES["student-prefix"]: "the untrained student's prefix, continued by the teacher",
    COMPUTE: "accuracy against training FLOP",
    OTHERS: "the same of the other arms",
    SCHEDULE: "prefix cap and accuracy by update",
}


def write_report(records: Sequence[Record], folder: Path, command: str) -> Path:
    """Write ``results.md`` and the pictures into ``folder``; returns the report's path.

    Args:
        records: runs that finished.
        command: what was typed, for the reader to type again.
    """
    evidence = Evidence.of(records, prefixes.read(folder))
    pictures = draw_all(records, evidence, folder)
    parts = ["# The paper's comparison in miniature", *_origin(records, command), "", "## Table", ""]
    parts += [
        *_table(evidence),
        "",
        *_legend(),
        "",
        "## Finding by finding",
        "",
        *_findings(evidence),
        *_mirror(evidence),
    ]
    parts += ["## Pictures", "", *(f"![{CAPTIONS[name]}]({name})" for name in pictures)]
    path = folder / REPORT_FILE
    path.write_text("\n".join(parts) + "\n")
    return path


def machine() -> str:
    """The processor and its cores, without the name of the host."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores, no GPU"


def _origin(records: Sequence[Record], command: str) -> Iterator[str]:
    seeds = sorted({record.seed for record in records})
    days = sorted({record.day for record in records})
    commits = sorted({record.commit for record in records})
    updates = sorted({record.updates for record in records})
    yield ""
    yield f"Written by `{command}` from [results.jsonl](results.jsonl), one line a run."
    yield ""
    yield f"- {len(records)} runs, seeds {_join(seeds)}; {_join(updates)} updates of {SEQUENCES} sequences each"
    yield f"- {records[0].last.problems} held-out problems, one answer each, temperature 1, never capped"
    yield f"- commit {_join(commits)}; {_join(days)}; {machine()}"
    if len(seeds) < 3:
        yield f"- {len(seeds)} seed{'s' if len(seeds) > 1 else ''} alone: this cannot show how far seeds differ"


def _table(evidence: Evidence) -> Iterator[str]:
    costs, full = half_gain_costs(evidence), evidence.last("full")
    headings = ("run", "accuracy", "95% interval", "seeds", "FLOP exact", "FLOP paper's formula", "seconds")
    headings += ("FLOP to half of full's gain", "FLOP / full", "seconds / full")
    headings += ("paper: run", "MATH500 1.7B / 8B", "FLOP / full 1.7B / 8B")
    yield f"| {' | '.join(headings)} |"
    yield "|" + "---|" * len(headings)
    if evidence.base is not None:
        yield f"| before training | {_accuracy(evidence.base)} | | | | | | | base | {_math500('base')} | |"
    for arm in (arm for arm in ARMS if arm.name in evidence.curves):
        last, cost = evidence.curves[arm.name][-1], costs.get(arm.name)
        seconds = evidence.share_of_seconds(arm.name)
        cells = [
            arm.label,
            _accuracy(last),
            f"{last.flops:.2e}",
            f"{last.flops_paper:.2e}",
            f"{last.seconds:.0f}",
            f"{cost:.2e}" if cost is not None else "not reached" if arm.name in costs else "",
            f"{last.flops / full[0].flops:.0%}" if full else "",
            f"{seconds:.0%}" if seconds is not None else "",
            arm.paper or "",
            _math500(arm.paper) if arm.paper else "",
            _paper_share(arm),
        ]
        yield f"| {' | '.join(cells)} |"


def _legend() -> Iterator[str]:
    yield "Accuracy: mean of the seeds. Interval: Wilson's, over the problems of one seed. Seeds: how many, lowest to"
    yield "highest accuracy."
    yield "FLOP exact: what was computed, prompts counted; paper's formula: its appendix B, prompts left out. SeqKD:"
    yield "F_forward(teacher, prompt + answer) + F_train(student, prompt + answer), and F_train(student, answer) by the"
    yield "paper's formula; it is validated at the end alone, and its seconds leave out the teacher's answers, which"
    yield "all SeqKD runs share. Seconds: of training steps, validation and start-up left out, SeqKD's last checkpoint"
    yield "included; seconds / full only where both ran the same commit, as later ones are faster."


def _findings(evidence: Evidence) -> Iterator[str]:
    yield "The verdicts are computed from results.jsonl by the rules below (`reproduction/findings.py`)."
    yield "*Higher* means that two bands, each the interval widened to the lowest and the highest seed, do not overlap."
    yield ""
    for i, finding in enumerate(FINDINGS, 1):
        verdict = finding.judge(evidence)
        yield f"### {i}. {finding.title}: {verdict.word}"
        yield ""
        yield f"- The paper: {finding.paper}"
        yield f"- Rule: {finding.rule}"
        yield f"- Here: {verdict.numbers or 'the runs that it takes are not there'}"
        yield ""


def _mirror(evidence: Evidence) -> Iterator[str]:
    """Which L to train this pair with, by the student's own prefixes."""
    found = evidence.prefixes.get("student-prefix")
    if found is None:
        return
    yield "## Which prefix decides: the teacher goes on from the untrained student's first L tokens"
    yield ""
    yield "The mirror of figure 3, which the paper does not have (`prefix-opd analyze student-prefix`)."
    yield ""
    yield "| L | accuracy | 95% interval | lost against L = 0 |"
    yield "|---|---|---|---|"
    for one in found.points:
        low, high = one.interval
        yield f"| {one.length} | {one.accuracy:.1%} | {100 * low:.1f} to {100 * high:.1f} | {one.drop[0]:.1%} |"
    yield ""
    yield f"{found.problems} problems; {advice(found)}."
    yield ""


def _accuracy(place: Place) -> str:
    low, high = place.interval
    count = len(place.accuracies)
    spread = f"{count}: {100 * min(place.accuracies):.1f} to {100 * max(place.accuracies):.1f}"
    return f"{place.mean:.1%} | {100 * low:.1f} to {100 * high:.1f} | {spread}"


def _paper_row(run: str, size: str) -> PaperRow:
    return next(row for row in TABLE if (row.run, row.size) == (run, size))


def _math500(run: str) -> str:
    return " / ".join(f"{_paper_row(run, size).accuracy[0]:.1f}" for size in ("1.7b", "8b"))


def _paper_share(arm: Arm) -> str:
    if arm.paper is None:
        return ""
    shares = (_paper_row(arm.paper, size).flop / _paper_row("OPD full", size).flop for size in ("1.7b", "8b"))
    return " / ".join(f"{share:.0%}" for share in shares)


def _join(values: Sequence) -> str:
    return ", ".join(map(str, values))
