"""Training and test problems as the parquet files that verl reads."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.base.files import whole_files
from prefix_opd.miniature.task import STEPS, Problem, begun, random_problem

DATA_SOURCE = "tiny/chain"
OTHER_SOURCE = "tiny/keep"
"""Source of every other row of ``train_two_sources``."""


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
    """Write the data and return the paths. The same seed gives the same bytes.

    ``train`` and ``test`` are the splits. The rows of ``train_hinted`` have a prompt of the teacher's own; problems of
    the most steps are left out there, because no letter is left for the label of their hint. In ``train_two_sources``
    every other row has another source.
    """
    problems = draw_problems(train, test, seed)
    rows = {split: [_row(one, split, i) for i, one in enumerate(found)] for split, found in problems.items()}
    pairs = list(zip(rows["train"], problems["train"], strict=True))
    rows["train_hinted"] = [{**row, "teacher_prompt": _begun(one)} for row, one in pairs if one.steps < STEPS[1]]
    sources = itertools.cycle((DATA_SOURCE, OTHER_SOURCE))
    rows["train_two_sources"] = [
        {**row, "data_source": source} for row, source in zip(rows["train"], sources, strict=False)
    ]
    with whole_files(Path(out_dir)) as place:
        for name, of_file in rows.items():
            pq.write_table(pa.Table.from_pylist(of_file), place(f"{name}.parquet"))
    return {name: Path(out_dir) / f"{name}.parquet" for name in rows}


def _begun(problem: Problem) -> list[dict[str, str]]:
    question, worked = begun(problem)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": worked}]


def _row(problem: Problem, split: str, index: int) -> dict:
    return row(DATA_SOURCE, problem.question, problem.answer, split, index)


def row(source: str, prompt: str, answer: str, split: str, index: int) -> dict:
    """One row for verl: a question of arithmetic with its true answer."""
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": prompt}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {"split": split, "index": index},
    }
