"""Copies of a prompt draw rollouts of their own; a row that occurs once keeps its seed."""

import copy

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

from prefix_opd.config.settings import Settings
from prefix_opd.method.seeds import rollout_seed
from prefix_opd.verl_plugin.fields import COPY
from prefix_opd.verl_plugin.trainer.copies import mark_copies
from prefix_opd.verl_plugin.worker.agent_loop import PrefixAgentLoopWorker

QUESTION = [{"role": "user", "content": "4+8-4-4:g"}]


def dataset(folder, rows):
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"data_source": "tiny/chain", **row} for row in rows]), path)
    config = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(folder / "cache")})
    return RLHFDataset(str(path), tokenizer=None, config=config)


def seeds(rows, step=1, session=0):
    worker = object.__new__(PrefixAgentLoopWorker)
    worker.settings = Settings.from_node({"rollout": {"seeded": 7}})
    return [
        worker._seed(
            {"step": step, "validate": False, "sample_index": row["index"]},
            {"session_id": session, **{name: row[name] for name in ("raw_prompt", COPY) if name in row}},
        )
        for row in rows
    ]


def test_rows_are_copies_by_prompt_and_index(tmp_path):
    places = [("a", 1), ("b", 1), ("a", 1), ("a", 2), ("a", 1)]
    found = dataset(
        tmp_path, [{"prompt": [{"role": "user", "content": c}], "extra_info": {"index": i}} for c, i in places]
    )
    mark_copies(found)
    assert [found[i][COPY] for i in range(5)] == [0, 0, 1, 0, 2]


@pytest.mark.parametrize("extra", [{}, {"extra_info": {"index": 0}}], ids=["no index", "one index"])
def test_64_copies_of_a_prompt_have_64_seeds(tmp_path, extra):
    found = dataset(tmp_path, [{"prompt": QUESTION, **extra}] * 64)
    assert len(set(seeds([found[i] for i in range(64)]))) == 1  # before
    mark_copies(found)
    rows = [found[i] for i in range(64)]
    assert [row[COPY] for row in rows] == list(range(64))
    assert len(set(seeds(rows))) == 64
    assert len({seed for session in range(4) for seed in seeds(rows, session=session)}) == 256


def test_rows_that_occur_once_keep_the_seeds_that_they_had(tmp_path):
    rows = [{"prompt": QUESTION, "extra_info": {"index": index}} for index in (3, 4)]
    found = dataset(tmp_path, rows)
    before = copy.copy(found.dataframe)
    mark_copies(found)
    assert found.dataframe.column_names == before.column_names
    assert seeds([found[0]]) == [rollout_seed(7, 1, ["3", QUESTION], 0, 0, validate=False)]
