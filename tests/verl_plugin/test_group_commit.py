"""Writes that wait go out together, and every writer hears what became of its own."""

from __future__ import annotations

import asyncio

import pytest

from prefix_opd.verl_plugin.worker.group_commit import GroupCommit


class Queue:
    """Records the calls. Each call lasts until it is released."""

    def __init__(self):
        self.calls: list[dict] = []
        self.go = asyncio.Event()
        self.other = "its own"

    async def async_kv_batch_put(self, keys, partition_id, fields, tags):
        self.calls.append({"keys": keys, "partition": partition_id, "fields": fields, "tags": tags})
        await self.go.wait()
        if "bad" in keys:
            raise OSError("disk full")


def _put(commit: GroupCommit, key: str, partition: str = "train"):
    rows = [{"tokens": key.upper()}]
    return asyncio.create_task(commit.async_kv_batch_put([key], partition, rows, [{"of": key}]))


def test_the_first_goes_at_once_and_the_others_together():
    async def scenario():
        queue = Queue()
        commit = GroupCommit(queue, to_table=tuple)
        first = _put(commit, "a")
        await asyncio.sleep(0.01)
        assert [call["keys"] for call in queue.calls] == [["a"]]
        rest = [_put(commit, "b"), _put(commit, "c")]
        await asyncio.sleep(0.01)
        assert len(queue.calls) == 1 and not first.done()
        queue.go.set()
        await asyncio.gather(first, *rest)
        return queue.calls

    calls = asyncio.run(scenario())
    assert calls[1] == {
        "keys": ["b", "c"],
        "partition": "train",
        "fields": ({"tokens": "B"}, {"tokens": "C"}),
        "tags": [{"of": "b"}, {"of": "c"}],
    }


def test_partitions_and_kinds_of_write_stay_apart():
    async def scenario():
        queue = Queue()
        queue.go.set()
        commit = GroupCommit(queue, to_table=tuple)
        await asyncio.gather(
            _put(commit, "a"), _put(commit, "b", "val"), commit.async_kv_put("a", "train", {"status": "finished"})
        )
        return queue.calls

    calls = asyncio.run(scenario())
    assert [(call["partition"], call["fields"]) for call in calls] == [
        ("train", ({"tokens": "A"},)),
        ("val", ({"tokens": "B"},)),
        ("train", None),
    ]


def test_an_error_reaches_each_writer_of_its_group_and_no_other():
    async def scenario():
        queue = Queue()
        commit = GroupCommit(queue, to_table=tuple)
        first = _put(commit, "a")
        await asyncio.sleep(0.01)
        rest = [_put(commit, "bad"), _put(commit, "c")]
        await asyncio.sleep(0.01)
        queue.go.set()
        await first
        results = await asyncio.gather(*rest, return_exceptions=True)
        later = _put(commit, "d")
        await later
        return results

    results = asyncio.run(scenario())
    assert [str(error) for error in results] == ["disk full", "disk full"]


def test_a_writer_waits_until_its_own_rows_are_stored():
    async def scenario():
        queue = Queue()
        commit = GroupCommit(queue, to_table=tuple)
        write = _put(commit, "a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(write), 0.05)
        queue.go.set()
        await write

    asyncio.run(scenario())


@pytest.mark.parametrize("key", ["a", "bad"])
def test_a_writer_that_gave_up_holds_up_no_other(key):
    async def scenario():
        queue = Queue()
        commit = GroupCommit(queue, to_table=tuple)
        for early in (key, "b"):  # one whose call is under way, one that waits its turn
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_put(commit, early), 0.01)
        waiting = _put(commit, "c")
        await asyncio.sleep(0.01)
        queue.go.set()
        await asyncio.wait_for(waiting, 1)
        await asyncio.wait_for(_put(commit, "d"), 1)
        return [call["keys"] for call in queue.calls]

    assert asyncio.run(scenario()) == [[key], ["c"], ["d"]]


def test_what_else_is_asked_of_the_queue_is_its_own():
    async def scenario():
        return GroupCommit(Queue(), to_table=tuple).other

    assert asyncio.run(scenario()) == "its own"
