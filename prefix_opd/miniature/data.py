"""Training and test problems as the parquet files that verl reads."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.miniature.task import Problem, random_problem

DATA_SOURCE = "tiny/chain"


def draw_problems(train: int, test: int, seed: int) -> dict[str, list[Problem]]:
    """Draw both splits. No question occurs twice, neither within a split nor across them.

    The test split is drawn first, so it stays the same whatever the size of the training split.
    """
    rng = random.Random(seed)
    seen: dict[Problem, None] = {}  # a dict keeps the order of drawing, a set does not
    while len(seen) < test + train:
        seen.setdefault(random_problem(rng))
    problems = list(seen)
    return {"train": problems[test:], "test": problems[:test]}


def write_data(out_dir: str | Path, train: int = 4096, test: int = 512, seed: int = 0) -> dict[str, Path]:
    """Write ``train.parquet`` and ``test.parquet`` and return their paths. The same seed gives the same bytes."""
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    paths = {}
    for split, problems in draw_problems(train, test, seed).items():
        paths[split] = out / f"{split}.parquet"
        rows = [_row(problem, split, index) for index, problem in enumerate(problems)]
        pq.write_table(pa.Table.from_pylist(rows), paths[split])
    return paths


def _row(problem: Problem, split: str, index: int) -> dict:
    return {
        "data_source": DATA_SOURCE,
        "prompt": [{"role": "user", "content": problem.question}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": problem.answer},
        "extra_info": {"split": split, "index": index},
    }
