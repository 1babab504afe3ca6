"""Problems as verl's parquet files."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.base.files import whole_files
from prefix_opd.miniature.data import row
from prefix_opd.smollm2.problems import Problem, random_problem

SOURCE = "smollm2/word_problems"


def draw(count: int, split: str, seed: int) -> list[Problem]:
    """``count`` different problems. More of them begin with the same ones."""
    rng, found = random.Random(f"{split} {seed}"), {}
    while len(found) < count:
        problem = random_problem(rng, split)
        found.setdefault(problem.question, problem)
    return list(found.values())


def write_data(out: Path, train: int = 8192, test: int = 512, seed: int = 0) -> None:
    """Write ``train.parquet`` and ``test.parquet``. The same seed gives the same bytes."""
    with whole_files(out) as place:
        for split, count in (("train", train), ("test", test)):
            problems = enumerate(draw(count, split, seed))
            rows = [row(SOURCE, one.prompt, one.answer, split, index) for index, one in problems]
            pq.write_table(pa.Table.from_pylist(rows), place(f"{split}.parquet"))
