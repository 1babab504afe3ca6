"""``results.md``: the paper's table and ours, finding by finding, from the records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.page import grid
from prefix_opd.analysis.tables import advice
from prefix_opd.method.paper import TABLE, PaperRow
from reproduction import prefixes
from reproduction.arms import ARMS, SEQUENCES, Arm
from reproduction.figures import COMPUTE, OTHERS, PREFIXES, SCHEDULE, SIGNAL, TAIL, draw_all
from reproduction.findings import FINDINGS, Evidence, half_gain_costs
from reproduction.record import Place, Record

REPORT_FILE = "results.md"
CAPTIONS = {  # in the page's order
    SIGNAL: "signal by position",
    TAIL: "the signal beyond the prefix",
    PREFIXES["teacher-prefix"]: "a teacher's prefix, continued by the untrained student",
    PREFIXES["student-prefix"]: "the untrained student's prefix, continued by the teacher",
    COMPUTE: "accuracy against training FLOP",
    OTHERS: "the same of the other arms",
    SCHEDULE: "prefix cap and accuracy by update",
}


def write_report(records: Sequence[Record], folder: Path, command: str) -> Path:
    """Write ``results.md``, with the command to repeat it, and the figures. Returns the report's path."""
    evidence = Evidence.of(records, prefixes.read(folder))
    pictures = draw_all(records, evidence, folder)
    parts = [
        "# The paper's comparison in miniature",
        *_origin(records, command),
        "## Table",
        _table(evidence),
        LEGEND,
        "## Finding by finding",
        *_findings(evidence),
        *_mirror(evidence),
        "## Pictures",
        "\n".join(f"![{caption}]({name})" for name, caption in CAPTIONS.items() if name in pictures),
    ]
    path = folder / REPORT_FILE
    path.write_text("\n\n".join(parts) + "\n")
    return path


def _origin(records: Sequence[Record], command: str) -> Iterator[str]:
    seeds, days, commits, updates = (
        sorted({getattr(record, name) for record in records}) for name in ("seed", "day", "commit", "updates")
    )
    yield f"Written by `{command}` from [results.jsonl](results.jsonl), one line a run."
    lines = [
        f"- {len(records)} runs, seeds {_join(seeds)}; {_join(updates)} updates of {SEQUENCES} sequences each",
        f"- {records[0].last.problems} held-out problems, one answer each, temperature 1, never capped",
        f"- commit {_join(commits)}; {_join(days)}; no GPU",
    ]
    if len(seeds) < 3:
        lines.append(f"- only {len(seeds)} seed{'s' if len(seeds) > 1 else ''}: the spread of seeds is not known")
    yield "\n".join(lines)


def _table(evidence: Evidence) -> str:
    costs, full = half_gain_costs(evidence), evidence.last("full")
    head = ("run", "accuracy", "95% interval", "seeds", "FLOP with prompts", "FLOP paper's formula", "seconds")
    head += ("FLOP to half of full's gain", "FLOP / full", "seconds / full")
    head += ("paper: run", "MATH500 1.7B / 8B", "FLOP / full 1.7B / 8B")
    rows = []
    if evidence.base is not None:
        rows.append(["before training", *_accuracy(evidence.base), *[""] * 6, "base", _math500("base"), ""])
    for arm in (arm for arm in ARMS if arm.name in evidence.curves):
        last, cost = evidence.curves[arm.name][-1], costs.get(arm.name)
        seconds = evidence.share_of_seconds(arm.name)
        rows.append(
            [
                arm.label,
                *_accuracy(last),
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
        )
    return grid(head, rows)


LEGEND = """\
- Accuracy: mean of the seeds. Interval: Wilson's, over the problems of one seed. Seeds: how many, lowest to highest
  accuracy.
- FLOP with prompts: model FLOP from the length of each rollout, the prompt once per rollout
  (`prefix_opd/method/flops.py`). Paper's formula: its appendix B, without prompts.
- Seconds: training steps, without validation and start-up. Seconds / full only where both ran the same commit.
- SeqKD: FLOP are F_forward(teacher, prompt + answer) + F_train(student, prompt + answer), and F_train(student, answer)
  by the paper's formula. It is validated at the end only. Its seconds include its last checkpoint and exclude the
  teacher's answers, which all SeqKD runs share."""


def _findings(evidence: Evidence) -> Iterator[str]:
    yield (
        "The verdicts are computed from results.jsonl by the rules below (`reproduction/findings.py`).\n"
        "*Higher* means that two bands, each the interval widened to the lowest and the highest seed, do not overlap."
    )
    for i, finding in enumerate(FINDINGS, 1):
        verdict = finding.judge(evidence)
        yield f"### {i}. {finding.title}: {verdict.word}"
        yield (
            f"- The paper: {finding.paper}\n- Rule: {finding.rule}\n"
            f"- Here: {verdict.numbers or 'the runs for this rule are missing'}"
        )


def _mirror(evidence: Evidence) -> Iterator[str]:
    """The L to train this pair with, from the student's own prefixes."""
    found = evidence.prefixes.get("student-prefix")
    if found is None:
        return
    yield "## Which prefix decides: the teacher continues the untrained student's first L tokens"
    yield "The mirror of figure 3, which the paper does not have (`prefix-opd analyze student-prefix`)."
    rows = [[one.length, f"{one.accuracy:.1%}", _percent(one.interval), f"{one.drop[0]:.1%}"] for one in found.points]
    yield grid(["L", "accuracy", "95% interval", "lost against L = 0"], rows)
    yield f"{found.problems} problems; {advice(found)}."


def _accuracy(place: Place) -> list[str]:
    seeds = _percent((min(place.accuracies), max(place.accuracies)))
    return [f"{place.accuracy:.1%}", _percent(place.interval), f"{len(place.accuracies)}: {seeds}"]


def _percent(ends: tuple[float, float]) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in ends)


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
