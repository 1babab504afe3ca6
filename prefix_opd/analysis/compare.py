"""Compare runs with the paper's tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.base.terminal import table
from prefix_opd.config.keys import STUDENT_KEY
from prefix_opd.config.lora import Lora
from prefix_opd.method.paper import BENCHMARKS, DATA_SETS, SIZES, TABLE, PaperRow, rows
from prefix_opd.run.folder import CONFIG_FILE, check_is_run, read_config
from prefix_opd.run.history import is_reverse_kl
from prefix_opd.run.ledger import Evaluation, validations
from prefix_opd.run.log import METRICS_FILE, read_metrics

CHOOSER = "AIME24"
"""The benchmark by which the paper chose its checkpoint."""

LORA = "{}, where the paper trains all weights"
PAPERS_SETTINGS = {
    "prefix_opd.weighting.name": "uniform",
    "prefix_opd.schedule.full_every": 0,
    "prefix_opd.schedule.full_from": None,
    "prefix_opd.prompt.thinking": "forced",
    "prefix_opd.rollout.off_policy_steps": 0,
}
"""Keys by which a run differs from the paper's methods. A config without one has the paper's value."""
PAPERS_RATE = 5e-5
_NAMED = re.compile(r"(?:.*[_/ -])?(?:1\.7|8)b[_ -](prefix[_ -]\d+|schedule|full)")
_BY_NAME = {"schedule": "prefix schedule", "full": "OPD full"}


@dataclass(frozen=True)
class Score:
    """Accuracy on one benchmark."""

    mean: float
    """Mean over problems and samples, in %."""
    k: int | None = None
    """Samples per problem."""
    low: float | None = None
    high: float | None = None
    """95% interval, in %, if the evaluation has one."""


@dataclass(frozen=True)
class Result:
    """A checkpoint of the user's run."""

    name: str
    scores: dict[str, Score]
    """By column of `BENCHMARKS`."""
    size: str | None = None
    """The student's size, one of `SIZES`; None if unknown."""
    paper_run: str | None = None
    """The paper's row with the same method (`paper_run`)."""
    step: int | None = None
    flop: float | None = None
    """Training FLOP up to that step, by the paper's accounting."""
    hours: float | None = None
    """Hours of training steps up to that step, without validation and start-up."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """A table: the paper's rows for one student, each followed by the runs with the same method, then other runs."""

    size: str
    lines: list[PaperRow | Result]

    def as_dict(self) -> dict[str, Any]:
        origins = ("paper" if isinstance(line, PaperRow) else "here" for line in self.lines)
        rows = [{"from": origin, **asdict(line)} for origin, line in zip(origins, self.lines, strict=True)]
        return {"size": self.size, "rows": rows}


def read(path: str | Path, step: int | None = None) -> Result:
    """A run's folder (its validations) or the JSON of an evaluation. Raises UserError."""
    path = Path(path)
    if path.is_dir():
        return from_run(path, step)
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        rule = "is not JSON" if isinstance(error, ValueError) else "does not exist, or cannot be read"
        raise UserError(str(path), rule, "name a run's folder, or the JSON that `evaluate` wrote") from None
    return from_evaluation(found, path.stem if isinstance(found, Mapping) else str(path))


def from_evaluation(found: Mapping[str, Any], name: str = "evaluation") -> Result:
    """A result from an evaluation's dict.

    Args:
        found: ``benchmarks`` maps a data set's name to a share between 0 and 1, or to a dict with ``mean`` and
            optionally ``k`` and ``interval`` (low, high). ``name``, ``model``, ``step``, ``flop``, ``hours`` and
            ``paper_run`` (the paper's row with the same method, by default read from the name) are optional::

                {"name": "qwen3_8b_prefix_256", "step": 60,
                 "benchmarks": {"aime2024": {"mean": 0.31, "k": 16, "interval": [0.19, 0.44]}, "math500": 0.82}}
    """
    benchmarks = found.get("benchmarks") if isinstance(found, Mapping) else None
    if not isinstance(benchmarks, Mapping) or not benchmarks:
        raise UserError(name, "has no benchmarks", "name the JSON that `evaluate` wrote")
    scores, notes = {}, []
    for source, value in benchmarks.items():
        column = _column(source)
        if column is None:
            notes.append(f"{source} is not in the paper")
        elif column not in scores or not source.endswith("diamond"):  # prefer the larger part of GPQA
            scores[column] = _score(value, f"{name}: {source}")
    label = str(found.get("name") or name)
    notes += [LORA.format(found["lora"])] if found.get("lora") else []
    costs = (_number(found.get(key), f"{name}: {key}") for key in ("step", "flop", "hours"))
    kind = str(found["paper_run"]) or None if "paper_run" in found else _kind(label)
    return Result(label, scores, _size(f"{label} {found.get('model', '')}"), kind, *costs, notes=notes)


def from_run(folder: str | Path, step: int | None = None) -> Result:
    """A result from a run's validation at ``step``: by default the one with the best AIME-24 score, as in the paper, or
    the last one if the run has no AIME-24 scores."""
    folder, found = check_is_run(Path(folder), [METRICS_FILE]), []
    for one in validations(read_metrics(folder)):
        scores = {at: Score(100 * share, k) for name, (share, k) in one.scores.items() if (at := _column(name))}
        found += [(one, scores)] if scores else []
    if not found:
        raise UserError(
            str(folder), "has no complete validation on a benchmark of the paper", "evaluate its checkpoint instead"
        )
    at, scores = _choose(found, step, folder)
    name, student, lora, kind = _about(folder)
    chosen = step is None and CHOOSER in scores
    notes = [f"step {at.step} has the best {CHOOSER} of {len(found)}, as in the paper"] if chosen else []
    notes += [LORA.format(lora)] if lora else []
    costs = (at.step, at.paper_flops, at.seconds / 3600)
    return Result(name, scores, _size(f"{name} {student}"), kind, *costs, notes)


def _choose(found: Sequence[tuple[Evaluation, dict[str, Score]]], step: int | None, folder: Path):
    if step is None:
        chosen = [(one, scores) for one, scores in found if CHOOSER in scores] or found[-1:]
        return max(chosen, key=lambda one: one[1][CHOOSER].mean if CHOOSER in one[1] else 0.0)
    for one, scores in found:
        if one.step == step:
            return one, scores
    steps = ", ".join(str(one.step) for one, _ in found)
    raise UserError(f"--step {step}", f"{folder} has no complete validation there", f"it has {steps}")


def _score(value: Any, where: str) -> Score:
    entry = value if isinstance(value, Mapping) else {"mean": value}
    mean = entry.get("mean")
    if isinstance(mean, bool) or not isinstance(mean, (int, float)) or not 0 <= mean <= 1:
        raise UserError(f"{where} mean={mean}", "must be a share between 0 and 1")
    interval = entry.get("interval") or (None, None)
    if not isinstance(interval, Sequence) or len(interval) != 2:
        raise UserError(f"{where} interval={interval}", "must be a list of two numbers")
    edges = [_number(edge, f"{where} interval") for edge in interval]
    return Score(100 * mean, _number(entry.get("k"), f"{where} k"), *(edge and 100 * edge for edge in edges))


def _number(value: Any, where: str) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise UserError(f"{where}={value}", "must be a number", "leave it out where it is not known")
    return value


def _column(source: str) -> str | None:
    return DATA_SETS.get(source.rpartition("/")[2].lower().replace("_", "-"))


def _about(folder: Path) -> tuple[str, str, str, str | None]:
    """Names of a run, of its student, of its adapter, and of the paper's row with the same method."""
    name = folder.resolve().name
    if not (folder / CONFIG_FILE).is_file():
        return name, "", "", _kind(name)
    config = read_config(folder)
    lora = Lora.of(config)
    name = str(OmegaConf.select(config, "trainer.experiment_name") or name)
    return name, str(OmegaConf.select(config, STUDENT_KEY) or ""), lora.label if lora else "", paper_run(config)


def _size(text: str) -> str | None:
    found = re.search(r"(?<![\d.])(1\.7|8)b(?![a-z0-9])", text.lower())
    return f"{found[1]}b" if found else None


def paper_run(config: DictConfig) -> str | None:
    """The paper's row with the method of a run: objective, schedule, weighting, prompt and learning rate.

    An adapter has its own learning rate, and a note in the table.
    """
    schedule = OmegaConf.select(config, "prefix_opd.schedule")
    rate = OmegaConf.select(config, "actor_rollout_ref.actor.optim.lr", default=PAPERS_RATE)
    others = any(OmegaConf.select(config, key, default=papers) != papers for key, papers in PAPERS_SETTINGS.items())
    longest = OmegaConf.select(config, "data.max_response_length") or 0
    if not schedule or others or not is_reverse_kl(config) or (schedule.get("maximum") or longest) < longest:
        return None
    if rate != PAPERS_RATE and not Lora.of(config):
        return None
    if schedule.name == "linear":
        return "prefix schedule" if (schedule.get("start"), schedule.get("increment")) == (1, 256) else None
    found = f"prefix {schedule.get('length')}" if schedule.name == "constant" else _BY_NAME.get(schedule.name)
    return found if found in {row.run for row in TABLE} else None


def _kind(name: str) -> str | None:
    """The paper's row that the name of one of its experiments says."""
    match = _NAMED.fullmatch(name.lower())
    return match and _BY_NAME.get(match[1], re.sub("[_-]", " ", match[1]))


def compare(results: Sequence[Result], size: str | None = None) -> list[Comparison]:
    """One table per student size: ``size`` for all runs, by default read from each run's name or model, or else 8b."""
    if size is not None and size not in SIZES:
        raise UserError(f"--size {size}", f"is not one of {', '.join(SIZES)}")
    of_size: dict[str, list[Result]] = {} if results else {one: [] for one in SIZES}
    for result in results:
        of_size.setdefault(size or result.size or "8b", []).append(result)
    found = []
    for one in sorted(of_size):
        published = {row.run: row for row in rows(one)}
        lines: list[PaperRow | Result] = []
        for run, row in published.items():
            lines += [row, *(result for result in of_size[one] if result.paper_run == run)]
        found.append(Comparison(one, [*lines, *(r for r in of_size[one] if r.paper_run not in published)]))
    return found


def render(comparison: Comparison):
    """A rich table. Each run stands below the paper's row with the same method, with the difference to that row."""
    made = table(f"Qwen3-{comparison.size.upper()}-Base, accuracy in %", ("run", *BENCHMARKS, "FLOP", "hours"))
    above: PaperRow | None = None
    notes = []
    for line in comparison.lines:
        if isinstance(line, PaperRow):
            above = line
            made.add_row(line.run, *(f"{value:.1f}" for value in line.accuracy), *_costs(line))
            continue
        published = dict(zip(BENCHMARKS, above.accuracy, strict=True)) if above and above.run == line.paper_run else {}
        step = f", step {line.step}" if line.step is not None else ""
        cells = [_cell(line.scores.get(column), published.get(column)) for column in BENCHMARKS]
        made.add_row(f"> {line.name}{step}", *cells, *_costs(line), style="bold")
        notes += [f"{line.name}: {note}" for note in line.notes]
    legend = (
        "> your runs, with the difference to the paper's row above in brackets. The paper: mean of 16 samples for "
        "AIME, 4 for the others; FLOP by its own accounting, hours on 8 x A100, both without evaluation."
    )
    made.caption = "\n".join([legend, *notes])
    return made


def _cell(score: Score | None, published: float | None) -> str:
    if score is None:
        return ""
    text = f"{score.mean:.1f}"
    if published is not None:
        text += f" ({score.mean - published:+.1f})"
    if score.low is not None:
        text += f"\n{score.low:.1f} to {score.high:.1f}"
    return text


def _costs(line: PaperRow | Result) -> tuple[str, str]:
    return "" if line.flop is None else f"{line.flop:.1e}", "" if line.hours is None else f"{line.hours:.1f}"
