"""Worker processes with a time limit. Any thread may use them."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path

import prefix_opd

START_LIMIT_S = 180.0
"""Limit for starting a worker. Importing sympy is slow while vLLM starts."""
WALL_FACTOR = 30.0
"""Wall-clock limit / limit of processor time. A worker ends itself at the limit of processor time. The pool kills a
worker at the wall-clock limit, which only a blocked worker reaches."""


class WorkerLost(Exception):
    """A worker ended during a task, e.g. because it ran out of memory."""


class _Worker:
    """One process and the pipe to it. Messages are JSON, so that a worker can send nothing but data."""

    def __init__(self, memory_bytes: int):
        # the folder of our package: a new Python process may not have it on its path
        root = str(Path(next(iter(prefix_opd.__path__))).parent)
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "prefix_opd.grading.worker", str(memory_bytes), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # each thread of a numerical library reserves address space, which is limited
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        try:
            reply = self._reply(START_LIMIT_S)
            if "broken" in reply:
                raise RuntimeError(reply["broken"])
        except BaseException as error:
            self.kill()
            raise RuntimeError(f"the grading worker did not start: {str(error) or type(error).__name__}") from error

    def ask(self, task: dict, limit_s: float) -> dict:
        """The reply to a task. Raises ``TimeoutError`` or ``WorkerLost``; discard the worker after either.

        Args:
            task: the strings to compare.
            limit_s: limit of processor time, seconds.
        """
        try:
            self._pipe.send_bytes(json.dumps({**task, "limit_s": limit_s}).encode())
            return self._reply(limit_s * WALL_FACTOR)
        except TimeoutError:
            raise
        except (OSError, EOFError) as error:
            self._process.wait()  # its pipe is closed, so it ends
            if self._process.returncode == -signal.SIGPROF:
                raise TimeoutError(f"it took {limit_s:g} s") from error
            raise WorkerLost("it ended") from error

    def _reply(self, limit_s: float) -> dict:
        if not self._pipe.poll(limit_s):
            raise TimeoutError(f"no reply within {limit_s:g} s")
        return json.loads(self._pipe.recv_bytes())

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe.close()


class WorkerPool:
    """Reusable workers that start when needed. A slow worker is killed and replaced.

    Args:
        size: maximum number of processes.
        memory_bytes: limit of the address space of each process.
    """

    def __init__(self, size: int, memory_bytes: int):
        self._memory_bytes = memory_bytes
        self._places = threading.BoundedSemaphore(size)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()

    def equal(self, answer: str, truth: str, limit_s: float) -> bool:
        """Equality by algebra within ``limit_s`` seconds of processor time.

        Raises:
            TimeoutError: the comparison took longer. The worker has been killed.
            WorkerLost: the worker ended or failed.
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
        while True:
            try:
                worker = self._idle.pop()  # atomic, like append
            except IndexError:
                worker = _Worker(self._memory_bytes)
            if worker.alive():
                self._busy.add(worker)
                return worker
            worker.kill()  # it was killed from outside while it was idle

    def close(self) -> None:
        """Kills all workers. The pool can be used again."""
        for worker in (*self._busy, *self._idle):
            worker.kill()
        self._idle.clear()


_pools: dict[tuple[int, int], WorkerPool] = {}
_lock = threading.Lock()


def shared_pool(size: int, memory_bytes: int) -> WorkerPool:
    """The pool of this process with these settings."""
    with _lock:
        return _pools.setdefault((size, memory_bytes), WorkerPool(size, memory_bytes))


def close_pools() -> None:
    """Kills the workers of all pools of this process."""
    for pool in _pools.values():
        pool.close()


def _forget() -> None:
    """In a forked child: drop the pools, because the parent continues to use their pipes."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


atexit.register(close_pools)
os.register_at_fork(after_in_child=_forget)
