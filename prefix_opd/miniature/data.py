"""Training and test problems as the parquet files that verl reads."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

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
    """Write ``train.parquet`` and ``test.parquet`` and return their paths. The same seed gives the same bytes."""
    return {
        split: _write([_row(problem, split, index) for index, problem in enumerate(problems)], out_dir, split)
        for split, problems in draw_problems(train, test, seed).items()
    }


def write_hinted(out_dir: str | Path, train: int = 4096, test: int = 512, seed: int = 0) -> Path:
    """Write ``train_hinted.parquet``: the training problems with a prompt of the teacher's own, and return its path.

    Problems of the most steps are left out: no letter is left for the label of their hint.
    """
    problems = draw_problems(train, test, seed)["train"]
    rows = [
        {**_row(problem, "train", index), "teacher_prompt": _begun(problem)}
        for index, problem in enumerate(problems)
        if problem.steps < STEPS[1]
    ]
    return _write(rows, out_dir, "train_hinted")


def write_two_sources(out_dir: str | Path, train: int = 4096, test: int = 512, seed: int = 0) -> Path:
    """Write ``train_two_sources.parquet``: every other row has another source. Returns its path."""
    problems = draw_problems(train, test, seed)["train"]
    rows = [
        {**_row(problem, "train", index), "data_source": (DATA_SOURCE, OTHER_SOURCE)[index % 2]}
        for index, problem in enumerate(problems)
    ]
    return _write(rows, out_dir, "train_two_sources")


def _write(rows: list[dict], out_dir: str | Path, name: str) -> Path:
    path = Path(out_dir) / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


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
