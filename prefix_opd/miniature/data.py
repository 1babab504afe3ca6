"""Training and test problems as the parquet files that verl reads."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.base.files import whole_files
from prefix_opd.miniature.chain import Chain
from prefix_opd.miniature.task import Problem, solution

OTHER_SOURCE = "tiny/keep"
"""Source of every other row of ``train_two_sources``."""


def draw_problems(train: int, test: int, seed: int, task: type[Problem] = Chain) -> dict[str, list[Problem]]:
    """Draw both splits of a task. No question occurs twice, neither within a split nor across them.

    The test split is drawn first, so it stays the same whatever the size of the training split.
    """
    rng = random.Random(seed)
    seen: dict[Problem, None] = {}  # a dict keeps the order of drawing, a set does not
    while len(seen) < test + train:
        seen.setdefault(task.draw(rng))
    problems = list(seen)
    return {"train": problems[test:], "test": problems[:test]}


def write_data(
    out_dir: str | Path, train: int = 4096, test: int = 512, seed: int = 0, task: type[Problem] = Chain
) -> dict[str, Path]:
    """Write the data of a task and return the paths. The same seed gives the same bytes.

    ``train`` and ``test`` are the splits. The rows of ``train_hinted`` have the solution, too. In ``train_two_sources``
    every other row has another source.
    """
    problems = draw_problems(train, test, seed, task)
    rows = {
        split: [row(one.SOURCE, one.question, one.answer, split, i) for i, one in enumerate(found)]
        for split, found in problems.items()
    }
    solutions = map(solution, problems["train"])
    rows["train_hinted"] = [{**one, "solution": text} for one, text in zip(rows["train"], solutions, strict=True)]
    rows["train_two_sources"] = [
        {**one, "data_source": (task.SOURCE, OTHER_SOURCE)[i % 2]} for i, one in enumerate(rows["train"])
    ]
    with whole_files(Path(out_dir)) as place:
        for name, of_file in rows.items():
            pq.write_table(pa.Table.from_pylist(of_file), place(f"{name}.parquet"))
    return {name: Path(out_dir) / f"{name}.parquet" for name in rows}


def row(source: str, prompt: str, answer: str, split: str, index: int) -> dict:
    """One row for verl: a question of arithmetic with its true answer."""
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": prompt}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {"split": split, "index": index},
    }
