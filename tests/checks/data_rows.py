"""Rows of a run in verl's layout, and files of them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 20


def row(index=0, **changed):
    found = {
        "data_source": "tiny/chain",
        "prompt": [{"role": "user", "content": f"{index}+7-5+7:s"}],
        "ability": "arithmetic",
        "reward_model": {"style": "rule", "ground_truth": "14"},
        "extra_info": {"split": "test", "index": index},
    }
    return {name: value for name, value in {**found, **changed}.items() if value != "left out"}


def parquet(folder, name, **changed):
    pq.write_table(pa.Table.from_pylist([row(index, **changed) for index in range(ROWS)]), folder / name)
    return str(folder / name)


def lines(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(folder / name)
