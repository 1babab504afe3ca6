"""verl's two row layouts, and a parquet writer whose bytes depend only on the rows.

Each layout has a fixed schema, because verl concatenates validation files.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.base.files import sha256_of
from prefix_opd.data.known import KnownSet
from prefix_opd.data.layouts import LETTERS, Problem
from prefix_opd.data.settings import CHOICE_TEMPLATE

_TEXT, _NUMBER = pa.string(), pa.int64()
_MESSAGES = pa.list_(pa.struct({"role": _TEXT, "content": _TEXT}))
_EXTRA = {"split": _TEXT, "index": _NUMBER, "id": _TEXT, "category": _TEXT, "n_options": _NUMBER, "question": _TEXT}

RL_SCHEMA = pa.schema(
    {
        "data_source": _TEXT,
        "prompt": _MESSAGES,
        "ability": _TEXT,
        "reward_model": pa.struct({"style": _TEXT, "ground_truth": _TEXT}),
        "extra_info": pa.struct(_EXTRA),
    }
)
"""One row of verl's RL trainer. ``extra_info.question`` is the question if the prompt contains more, else ""."""

SFT_SCHEMA = pa.schema([("messages", _MESSAGES)])
"""One row of verl's SFT trainer (``data.messages_key=messages``)."""

ROWS_PER_GROUP = 512


def user_message(problem: Problem) -> str:
    """The user message: the question alone, or the question with lettered options."""
    if not problem.options:
        return problem.question
    options = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, problem.options, strict=False))
    return CHOICE_TEMPLATE.format(question=problem.question, options=options)


def rl_row(known: KnownSet, problem: Problem, index: int) -> dict[str, Any]:
    """A row for verl's RL trainer. ``index`` is that of ``extra_info``."""
    message = user_message(problem)
    return {
        "data_source": known.name,
        "prompt": [{"role": "user", "content": message}],
        "ability": problem.category if known.layout == "questions" else known.ability,
        "reward_model": {"style": "rule" if problem.truth else "none", "ground_truth": problem.truth},
        "extra_info": {
            "split": known.purpose,
            "index": index,
            "id": problem.id,
            "category": problem.category,
            "n_options": len(problem.options),
            "question": problem.question if message != problem.question else "",
        },
    }


def sft_row(question: str, response: str) -> dict[str, Any]:
    """A row for verl's SFT trainer: the user message as in RL training, and a response from the data set."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": response}]}


class RowWriter:
    """Writes rows in groups of fixed size: memory stays bounded and the bytes are reproducible."""

    def __init__(self, path: Path, schema: pa.Schema):
        self._path, self._schema = path, schema
        # Explicit, because defaults may change with the pyarrow version.
        self._writer = pq.ParquetWriter(
            path, schema, compression="zstd", compression_level=3, version="2.6", data_page_version="1.0"
        )
        self._pending: list[dict[str, Any]] = []
        self._rows = 0
        self._digest = hashlib.sha256()

    def add(self, row: dict[str, Any]) -> None:
        self._pending.append(row)
        self._rows += 1
        self._digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        if len(self._pending) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_pylist(self._pending, schema=self._schema))
            self._pending.clear()

    def close(self) -> dict[str, Any]:
        """Finish the file. Returns its entry of the manifest.

        ``sha256`` depends on the pyarrow version, which the file contains; ``rows_sha256``, of the rows as JSON lines,
        does not.
        """
        self._flush()
        self._writer.close()
        return {
            "rows": self._rows,
            "bytes": self._path.stat().st_size,
            "sha256": sha256_of(self._path),
            "rows_sha256": self._digest.hexdigest(),
        }
