"""Write to TransferQueue in groups: one call for all waiting rollouts.

The first write is sent at once. Writes that arrive meanwhile wait, and are then sent together. A single write is not
delayed, and a step of B * n short rollouts needs a handful of calls. Each writer waits until its own rows are stored,
which keeps the order that verl relies on: rollouts first, then the status of their prompt.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefix_opd.base.patching import around


@dataclass
class _Write:
    keys: list[str]
    rows: list[dict[str, Any]] | None
    tags: list[dict[str, Any]]
    done: asyncio.Future


_Group = tuple[str, tuple[str, ...] | None]
"""Writes with the same partition and field names (None: tags only) can share a call."""


class GroupCommit:
    """Replaces the module ``transfer_queue`` in verl's agent-loop worker. Other attributes are the module's own.

    Args:
        queue: the module, or an object with its ``async_kv_batch_put``.
        to_table: rows -> the table that ``queue`` stores (verl's ``list_of_dict_to_tensordict``).
    """

    def __init__(self, queue: Any, to_table: Callable[[list[dict[str, Any]]], Any]):
        self._queue = queue
        self._to_table = to_table
        self._waiting: dict[_Group, list[_Write]] = defaultdict(list)
        self._under_way: dict[_Group, asyncio.Task] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def async_kv_put(self, key: str, partition_id: str, tag: dict[str, Any]) -> None:
        """Store a tag."""
        await self.async_kv_batch_put([key], partition_id, None, [tag])

    async def async_kv_batch_put(
        self, keys: list[str], partition_id: str, fields: list[dict[str, Any]] | None, tags: list[dict[str, Any]]
    ) -> None:
        """Store rows. One table is made of all rows that are sent together."""
        group = (partition_id, None if fields is None else tuple(sorted(fields[0])))
        write = _Write(keys, fields, tags, asyncio.get_running_loop().create_future())
        self._waiting[group].append(write)
        if group not in self._under_way:
            self._under_way[group] = asyncio.create_task(self._commit_all(group))
        await write.done

    async def _commit_all(self, group: _Group) -> None:
        try:
            while writes := self._waiting.pop(group, []):
                # as without groups, a writer that was cancelled before its turn (time limit) stores nothing
                if wanted := [write for write in writes if not write.done.done()]:
                    await self._commit(group[0], wanted)
        finally:
            del self._under_way[group]

    async def _commit(self, partition_id: str, writes: list[_Write]) -> None:
        rows, failure = [row for write in writes for row in write.rows or []], None
        try:
            await self._queue.async_kv_batch_put(
                keys=[key for write in writes for key in write.keys],
                partition_id=partition_id,
                fields=self._to_table(rows) if rows else None,
                tags=[tag for write in writes for tag in write.tags],
            )
        except Exception as error:  # passed on to every writer of the group
            failure = error
        for write in writes:
            if write.done.done():  # its writer was cancelled meanwhile
                continue
            if failure is None:
                write.done.set_result(None)
            else:
                write.done.set_exception(failure)


def grouped(queue: Any) -> GroupCommit:
    """The `GroupCommit` that replaces the module ``transfer_queue`` in verl's agent-loop worker."""
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    return GroupCommit(queue, list_of_dict_to_tensordict)


@around
def rows_as_they_are(verls_own, list_of_dicts):
    """Replace ``list_of_dict_to_tensordict`` there: rows stay lists until `GroupCommit` makes a group's table."""
    return list_of_dicts
