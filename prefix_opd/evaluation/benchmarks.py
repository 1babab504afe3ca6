"""What an evaluation asks: prepared sets by name, parquet files, or the miniature; and how responses are sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig

from prefix_opd.base.errors import UserError, at_least
from prefix_opd.base.files import read_object, sha256_of
from prefix_opd.checks.run_data import check_columns, check_graded, check_path, check_rows, check_text_alone, read_rows
from prefix_opd.config.keys import NUMPY_SEED
from prefix_opd.data.known import KNOWN
from prefix_opd.data.manifest import MANIFEST

MINIATURES = {"tiny": ("test", 192), "cells": ("cells_test", 336)}
"""Name, which is also that of the experiments -> name of the problems, ``data.max_response_length``."""
MAX_TOKENS = 16_384
"""The paper's L_test."""
OTHER_SAMPLES = 4
"""Default samples per problem, as in the paper for all benchmarks but AIME."""
TESTS = tuple(name for name, known in KNOWN.items() if known.purpose == "test")
ALL = ", ".join([*TESTS, *MINIATURES])
_COLUMNS = ["prompt", "data_source", "reward_model"]


@dataclass(frozen=True)
class Sampling:
    """Sampling settings. The defaults are the paper's."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = MAX_TOKENS
    """Maximum length of a response, tokens."""
    seed: int = 0
    """The seed of a response depends on this seed, the problem and the sample, not on chunks or stops."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 10.0:
            raise UserError(f"--temperature={self.temperature:g}", "must lie between 0 and 10")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"--top-p={self.top_p:g}", "must be above 0 and at most 1")
        at_least("--max-tokens", self.max_tokens, 1)
        at_least("--seed", self.seed, 0, NUMPY_SEED)


@dataclass(frozen=True)
class Benchmark:
    """A file of problems. Example: ``Benchmark("aime2024", Path("…"), 16)``."""

    name: str
    path: Path
    samples: int
    """k: responses per problem."""
    limit: int | None = None
    """Number of problems, from the first; None for all."""

    @cached_property
    def sha256(self) -> str:
        return sha256_of(self.path)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per problem: ``prompt`` (messages), ``id``. Raises UserError for a file that verl cannot read."""
        found = islice(read_rows(f"benchmark {self.path}", self.path, ["prompt"], ["extra_info"]), self.limit)
        return [
            {"prompt": row["prompt"], "id": _id(row.get("extra_info"), position)} for position, row in enumerate(found)
        ]

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest that `prefix-opd prepare` wrote beside the file, if any."""
        path = self.path.parent / MANIFEST
        return read_object(path) if path.is_file() else None


def find(names: Sequence[str], data: Path, k: int | None = None, limit: int | None = None) -> list[Benchmark]:
    """The named benchmarks; without names every known set that is prepared in ``data``.

    Raises:
        UserError: an unknown name, a set that is not prepared, two benchmarks with one name.
    """
    at_least("--k", k, 1)
    at_least("--limit", limit, 1)
    found = [_one(name, data, k, limit) for name in names or _prepared(data)]
    for benchmark in found:
        if [other.name for other in found].count(benchmark.name) > 1:
            raise UserError(benchmark.name, "is given twice", "name each benchmark once, and each file differently")
    for name in MINIATURES:
        if name in names and len(found) > 1:
            raise UserError(name, "has another answer length", "evaluate it separately")
    for benchmark in found:
        _check(benchmark)
    return found


def _one(name: str, data: Path, k: int | None, limit: int | None) -> Benchmark:
    if name in MINIATURES:
        from prefix_opd.miniature.paths import tiny_path

        return Benchmark(name, Path(tiny_path(MINIATURES[name][0])), k or OTHER_SAMPLES, limit)
    folded = name.strip().lower().replace("_", "-")
    if folded in TESTS:
        path = data / folded / "test.parquet"
        if not path.is_file():
            raise UserError(
                f"benchmark {folded}",
                f"is not prepared: {path} does not exist",
                f"run `prefix-opd prepare {folded}`, or give its folder with --data",
            )
        return Benchmark(folded, path, k or KNOWN[folded].samples, limit)
    path = Path(name).expanduser()
    if path.suffix != ".parquet":
        raise UserError(f"benchmark {name!r}", "is not known", f"known: {ALL}, or a parquet file")
    if not path.is_file():
        raise UserError(f"benchmark {name}", "does not exist", "see `prefix-opd prepare --help`")
    called = path.absolute().parent.name if path.stem in ("test", "train") else path.stem
    samples = KNOWN[called].samples if called in TESTS else OTHER_SAMPLES
    return Benchmark(called, path, k or samples, limit)


def _prepared(data: Path) -> list[str]:
    found = [name for name in TESTS if (data / name / "test.parquet").is_file()]
    if not found:
        raise UserError(
            f"--data={data}",
            "contains no prepared benchmark",
            f"name one of {ALL}, or a parquet file",
        )
    return found


def check_answers(config: DictConfig, benchmarks: Sequence[Benchmark]) -> None:
    """Check that the config's grader takes the true answers. Raises UserError."""
    for one in benchmarks:
        check_graded(config, f"benchmark {one.path}", one.path, _read(one.path).schema)


def _check(benchmark: Benchmark) -> None:
    table, what = _read(benchmark.path), f"benchmark {benchmark.path}"
    check_path(what, benchmark.path)
    for name in _COLUMNS:
        if name not in table.column_names:
            raise UserError(what, f"lacks verl's column {name!r} (it has {', '.join(table.column_names)})")
    check_columns(what, table.schema, validated=True)
    check_text_alone(what, benchmark.path, table.schema)
    check_rows(what, table.select(_COLUMNS).to_pylist(), _COLUMNS)


def _read(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError):
        raise UserError(f"benchmark {path}", "is not a parquet file", "see `prefix-opd prepare --help`") from None


def _id(extra_info: Any, position: int) -> str:
    named = [(extra_info or {}).get(name) for name in ("id", "index")]
    return str(next((one for one in named if one not in (None, "")), position))
