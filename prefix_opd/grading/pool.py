"""Worker processes that are killed when they take too long. Safe to call from any thread."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import prefix_opd

START_LIMIT_S = 180.0
"""Importing sympy on a machine that is busy starting vLLM takes long; a worker that needs more is broken."""
WALL_FACTOR = 30.0
"""A worker ends itself by processor time; by the clock it may take this much longer on a busy machine, then it is
killed from here. Only a worker that waits for something reaches this limit."""


class WorkerLost(Exception):
    """A worker ended in the middle of a task, e.g. because it ran out of memory."""


class _Worker:
    """One process and its two pipes."""

    def __init__(self, memory_bytes: int):
        # The folder that our own package came from: the parent may have it on a path that a fresh Python lacks.
        root = str(Path(next(iter(prefix_opd.__path__))).parent)
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prefix_opd.grading.worker", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Each thread of a numerical library reserves address space, which is bounded.
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._unread = b""
        try:
            reply = self._reply(START_LIMIT_S)
        except BaseException as error:
            self.kill()
            raise RuntimeError(f"the grading worker did not start: {error or type(error).__name__}") from error
        if "broken" in reply:
            self.kill()
            raise RuntimeError(f"the grading worker did not start: {reply['broken']}")

    def ask(self, task: dict, limit_s: float) -> dict:
        """The reply to a task. Raises ``TimeoutError`` or ``WorkerLost``; the worker is of no use after either.

        Args:
            task: what to compare.
            limit_s: seconds of processor time.
        """
        try:
            self._process.stdin.write(json.dumps({**task, "limit_s": limit_s}).encode() + b"\n")
            self._process.stdin.flush()
            return self._reply(limit_s * WALL_FACTOR)
        except (OSError, WorkerLost) as error:
            if isinstance(error, TimeoutError):  # which is an OSError
                raise
            self._process.wait()  # its pipe is closed, so it is ending
            if self._process.returncode == -signal.SIGPROF:
                raise TimeoutError(f"it took {limit_s:g} s") from error
            raise WorkerLost("it ended") from error

    def _reply(self, limit_s: float) -> dict:
        deadline = time.monotonic() + limit_s
        output = self._process.stdout.fileno()
        poll = select.poll()  # not select(), which fails once a large process has more than 1 024 files open
        poll.register(output, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError(f"no reply within {limit_s:g} s")
            data = os.read(output, 65_536)
            if not data:
                raise WorkerLost("it ended")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class WorkerPool:
    """At most ``size`` workers, started when needed and used again; a slow one is killed and replaced.

    Args:
        size: processes at most.
        memory_bytes: address space of each.
    """

    def __init__(self, size: int, memory_bytes: int):
        self._memory_bytes = memory_bytes
        self._places = threading.BoundedSemaphore(size)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()

    def equal(self, answer: str, truth: str, limit_s: float) -> bool:
        """Equality by algebra within ``limit_s`` seconds of processor time.

        Raises:
            TimeoutError: it took longer than ``limit_s``; the worker has been killed.
            WorkerLost: the worker ended, or failed in the middle of it.
        """
        with self._places:
            worker = self._take()
            try:
                reply = worker.ask({"answer": answer, "truth": truth}, limit_s)
            except BaseException:
                worker.kill()
                raise
            else:
                self._idle.append(worker)
            finally:
                self._busy.discard(worker)
        if "failed" in reply:
            raise WorkerLost(reply["failed"])
        return reply["equal"]

    def _take(self) -> _Worker:
        worker = None
        while worker is None:
            try:
                worker = self._idle.pop()  # atomic, as append is
            except IndexError:
                worker = _Worker(self._memory_bytes)
            if not worker.alive():  # ended from outside while it was idle
                worker.kill()
                worker = None
        self._busy.add(worker)
        return worker

    def close(self) -> None:
        """Kills every worker; the pool can be used again."""
        for worker in (*self._busy, *self._idle):
            worker.kill()
        self._idle.clear()


_pools: dict[tuple[int, int], WorkerPool] = {}
_lock = threading.Lock()


def shared_pool(size: int, memory_bytes: int) -> WorkerPool:
    """This process's pool for these settings."""
    with _lock:
        return _pools.setdefault((size, memory_bytes), WorkerPool(size, memory_bytes))


def close_pools() -> None:
    """Kills the workers of every pool of this process."""
    for pool in _pools.values():
        pool.close()


def _forget() -> None:
    """In a forked child: the pipes are shared with the parent, which goes on using them."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


atexit.register(close_pools)
os.register_at_fork(after_in_child=_forget)
