"""The record of an evaluation, from which a stopped evaluation resumes.

The output folder has ``evaluation.json`` (model, benchmarks and settings) and ``parts``, with one file per finished
chunk of problems. A part appears whole or not at all, so the finished problems are exactly those in the parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.base import files
from prefix_opd.base.errors import UserError
from prefix_opd.base.files import read_object, whole_files

PLAN_FILE = "evaluation.json"
PARTS = "parts"
RESPONSES_FILE = "responses.parquet"
PROGRESS_FILE = "progress.json"
LOCK_FILE = "lock"

SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("problem", pa.int64()),
        ("problem_id", pa.string()),
        ("sample", pa.int64()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("score", pa.float64()),
        ("pred", pa.string()),
        ("graded_by", pa.string()),
        ("reason", pa.string()),
        ("response_length", pa.int64()),
        ("natural_end", pa.bool_()),
        ("cut", pa.bool_()),
    ]
)
"""One response. ``problem``: row of the benchmark's file. ``cut``: the response reached the token limit. ``reason``:
the grader's phrase, e.g. "the thinking did not end"."""


@dataclass(frozen=True)
class Chunk:
    """Problems of one part file. Example: ``Chunk("math500", (0, 1, 2), 4)``."""

    benchmark: str
    problems: tuple[int, ...]
    samples: int

    @property
    def part(self) -> str:
        return f"{self.benchmark}-{self.problems[0]:06d}.parquet"


def chunks(problems: int, done: set[int], benchmark: str, samples: int, size: int) -> list[Chunk]:
    """The unfinished problems of a benchmark, in order, ``size`` per chunk."""
    left = [problem for problem in range(problems) if problem not in done]
    return [Chunk(benchmark, tuple(left[i : i + size]), samples) for i in range(0, len(left), size)]


# ---- is it this evaluation? ----


def check_same(folder: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``plan`` with the plan in the folder, and return the result.

    ``plan`` has ``same`` (settings that must not change) and ``benchmarks`` (name -> ``same`` and more). New benchmarks
    are added. Raises UserError with the first difference if the folder contains another evaluation.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}", "is a file", "name a folder")
    path = folder / PLAN_FILE
    if not path.exists():
        others = [name for name in ("config.yaml", RESPONSES_FILE, PARTS) if (folder / name).exists()]
        if others:
            raise UserError(
                f"--out {folder}", f"contains something else ({others[0]})", "choose another folder with --out"
            )
        return dict(plan)
    before = read_object(path)
    if not all(isinstance(before.get(part), dict) for part in ("same", "benchmarks")):
        raise UserError(str(path), "is not of an evaluation", "choose another folder with --out")
    _refuse_difference(folder, before["same"], plan["same"], "")
    for name in plan["benchmarks"]:
        if name in before["benchmarks"]:
            old, new = (one["benchmarks"][name]["same"] for one in (before, plan))
            _refuse_difference(folder, old, new, f"{name}: ")
    return {**plan, "benchmarks": {**before["benchmarks"], **plan["benchmarks"]}}


def _refuse_difference(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            raise UserError(
                f"--out {folder}",
                f"contains another evaluation ({where}{name}={old.get(name)} there, {new.get(name)} here)",
                "choose another folder with --out, or use the settings of that evaluation to resume it",
            )


def hold(folder: Path):
    """Lock the folder until the returned file is closed or the process ends. Raises UserError if it is locked."""
    refusal = UserError(f"--out {folder}", "another evaluation is writing to it", "wait for it, or stop it")
    return files.hold(folder / LOCK_FILE, refusal)


# ---- the parts ----


def write_part(folder: Path, chunk: Chunk, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the part file of a finished chunk. Raises RuntimeError, and writes nothing, if responses are missing or
    duplicated."""
    expected = {(problem, sample) for problem in chunk.problems for sample in range(chunk.samples)}
    found = [(row["problem"], row["sample"]) for row in rows]
    if len(found) != len(expected) or set(found) != expected:
        raise RuntimeError(
            f"{chunk.benchmark}: {len(found)} responses came back of {len(expected)}; the log above has the errors. "
            "This chunk was discarded: start the same command again to resume"
        )
    ordered = sorted(rows, key=lambda row: (row["problem"], row["sample"]))
    with whole_files(folder / PARTS) as place:
        pq.write_table(pa.Table.from_pylist(ordered, schema=SCHEMA), place(chunk.part), compression="zstd")


def done(folder: Path, benchmark: str, samples: int) -> set[int]:
    """The finished problems of a benchmark. Raises UserError if a problem is duplicated or has too few samples: another
    program changed the parts."""
    found: Counter[tuple[int, int]] = Counter()
    for path in _parts(folder, benchmark):
        table = _read_part(path, ["problem", "sample"])
        found.update(zip(table["problem"].to_pylist(), table["sample"].to_pylist(), strict=True))
    problems = {problem for problem, _ in found}
    if any(count > 1 for count in found.values()) or len(found) != len(problems) * samples:
        rule = f"its {benchmark} has problems doubled or short of {samples} samples"
        raise UserError(str(folder / PARTS), rule, f"remove the parts of {benchmark}")
    return problems


def read_columns(folder: Path, benchmark: str) -> list[dict[str, Any]]:
    """The responses of a benchmark in order, without their text."""
    names = [name for name in SCHEMA.names if name not in ("prompt", "response")]
    rows = [row for path in _parts(folder, benchmark) for row in _read_part(path, names).to_pylist()]
    return sorted(rows, key=lambda row: (row["problem"], row["sample"]))


def write_responses(folder: Path, benchmarks: Sequence[str]) -> Path:
    """Write all parts to one file, part by part, which bounds memory."""
    with whole_files(folder) as place, pq.ParquetWriter(place(RESPONSES_FILE), SCHEMA, compression="zstd") as writer:
        for benchmark in benchmarks:
            for path in _parts(folder, benchmark):
                writer.write_table(_read_part(path))
    return folder / RESPONSES_FILE


def _parts(folder: Path, benchmark: str) -> list[Path]:
    return sorted(path for path in (folder / PARTS).glob("*.parquet") if path.name.rpartition("-")[0] == benchmark)


def _read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            table = file.read([name for name in columns or SCHEMA.names if name in known])
        for name in set(columns or SCHEMA.names) - set(known):  # written before this column existed
            table = table.append_column(SCHEMA.field(name), pa.nulls(len(table), SCHEMA.field(name).type))
        return table.select(columns or SCHEMA.names)
    except (pa.ArrowException, OSError, ValueError):
        raise UserError(str(path), "is damaged", "remove it, and its problems will be repeated") from None
