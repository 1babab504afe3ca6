"""Rows of a data set that nothing tells apart: the same prompt under the same index, or under none.

A rollout's seed is made of its prompt and index (`prefix_opd.method.seeds`), so copies of a row would draw the same
tokens. Each copy is numbered; a row that occurs once keeps the seed that it always had.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from prefix_opd.verl_plugin.fields import COPY


def count_copies(rows: Iterable[Any]) -> list[int]:
    """How often each row occurred before it.

    >>> count_copies(["a", "b", "a", "a"])
    [0, 0, 1, 2]
    """
    seen: Counter[str] = Counter()
    copies = []
    for row in rows:
        name = json.dumps(row, default=str, sort_keys=True)
        copies.append(seen[name])
        seen[name] += 1
    return copies


def mark_copies(dataset: Any) -> None:
    """Number the copies in a column `COPY` of verl's data set (``RLHFDataset``), where it has any."""
    table = dataset.dataframe
    extra = table["extra_info"] if "extra_info" in table.column_names else [None] * len(table)
    indices = ((one or {}).get("index", 0) for one in extra)  # as RLHFDataset.__getitem__ reads it
    copies = count_copies(zip(indices, table[dataset.prompt_key], strict=True))
    if any(copies):
        dataset.dataframe = table.add_column(COPY, copies)
