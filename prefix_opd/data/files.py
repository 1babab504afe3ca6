"""A parquet writer whose bytes depend only on the rows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefix_opd.base.files import sha256_of

ROWS_PER_GROUP = 512


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
