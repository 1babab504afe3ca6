"""Numbers identical rows of a data set (same prompt, same index or no index).

A rollout's seed depends on prompt and index (`prefix_opd.method.seeds`), so identical rows would sample the same
tokens. The number of the copy enters the seed. The seed of a row without copies does not change.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from prefix_opd.verl_plugin.fields import COPY


def mark_copies(dataset: Any) -> None:
    """Add the column `COPY`, the number of earlier identical rows, to verl's ``RLHFDataset`` if any row has such."""
    table = dataset.dataframe
    extra = table["extra_info"] if "extra_info" in table.column_names else [None] * len(table)
    indices = ((one or {}).get("index", 0) for one in extra)  # as RLHFDataset.__getitem__ reads it
    rows = zip(indices, table[dataset.prompt_key], strict=True)
    seen: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
    copies = [next(seen[json.dumps(row, default=str, sort_keys=True)]) for row in rows]
    if any(copies):
        dataset.dataframe = table.add_column(COPY, copies)
