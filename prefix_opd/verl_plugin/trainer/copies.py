"""Numbers identical rows of a data set (same prompt, same index or no index).

A rollout's seed depends on prompt and index (`prefix_opd.method.seeds`), so identical rows would sample the same
tokens. The number of the copy enters the seed. The seed of a row without copies does not change.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from prefix_opd.verl_plugin.fields import COPY


def count_copies(rows: Iterable[Any]) -> list[int]:
    """For each row, the number of earlier identical rows.

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
    """Add the column `COPY` to verl's data set (``RLHFDataset``) if it has identical rows."""
    table = dataset.dataframe
    extra = table["extra_info"] if "extra_info" in table.column_names else [None] * len(table)
    indices = ((one or {}).get("index", 0) for one in extra)  # as RLHFDataset.__getitem__ reads it
    copies = count_copies(zip(indices, table[dataset.prompt_key], strict=True))
    if any(copies):
        dataset.dataframe = table.add_column(COPY, copies)
