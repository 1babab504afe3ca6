"""A time limit for engines without progress. It does not limit a rollout that waits in a working engine's queue."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar

import ray
from verl.workers.rollout.llm_server import LLMServerClient

from prefix_opd.verl_plugin.server import progress as server_progress
from prefix_opd.verl_plugin.server.remote_teacher import RemoteTeacherClient

Result = TypeVar("Result")


async def ask(address: str) -> float:
    """`prefix_opd.verl_plugin.server.progress.ask` without blocking the event loop."""
    return await asyncio.to_thread(server_progress.ask, address)


NO_PROGRESS = "no progress in "
"""Start of the message of `NoProgress`."""


class NoProgress(TimeoutError):
    """The engines made no progress within the time limit."""


class Progress:
    """The clock that all rollouts of an agent-loop worker share.

    Each new rollout and each answer of an engine restarts the clock. At the limit, the worker asks the engines for the
    time of their last token, which also counts as progress.
    """

    def __init__(self, seconds: float, ask: Callable[[str], Awaitable[float]] = ask):
        """
        Args:
            seconds: the time limit.
            ask: server address -> seconds since its engine generated a token.
        """
        self.seconds = seconds
        self.engines: dict[str, Any] = {}
        """Address -> server, for all servers that received a request."""
        self._ask = ask
        self._last = float("-inf")
        self._standing = 0
        self._given_up: float | None = None
        self._asking = asyncio.Lock()

    def came(self) -> None:
        """Record progress of an engine now."""
        self._last = _now()

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """The clock does not run: a response is graded, which is no work of the engines."""
        self._standing += 1
        try:
            yield
        finally:
            self._standing -= 1
            self.came()

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.seconds if self._standing else self._last + self.seconds - _now()

    async def watch(self, rollout: Coroutine[Any, Any, Result]) -> Result:
        """Wait for the result of a rollout.

        Raises:
            NoProgress: the engines made no progress within the limit. The rollout and its engine request are cancelled.
        """
        self.came()
        task = asyncio.ensure_future(rollout)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=max(self.left, 0))
                if not task.done() and await self._is_over():
                    raise NoProgress(f"{NO_PROGRESS}{self.seconds:g} s: no rollout, no score, no token")
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _is_over(self) -> bool:
        async with self._asking:  # one rollout asks on behalf of all
            if self.left > 0:
                return False
            if self._given_up != self._last:
                idle = await asyncio.gather(*map(self._ask, self.engines))
                self._last = max([self._last, *(_now() - seconds for seconds in idle)])
            if self.left > 0:
                return False
            self._given_up = self._last
            return True

    async def call(self, server: Any, **request: Any) -> Any:
        """Call ``server.generate``. If the caller is cancelled, the request in the engine is cancelled too.

        verl's ``abort_request`` cannot find the request, because vLLM adds a random suffix to request ids. Cancelling
        the actor call cancels vLLM's ``generate``, which aborts its own request.
        """
        answer = server.generate.remote(**request)
        try:
            result = await answer
        except asyncio.CancelledError:
            ray.cancel(answer)
            raise
        self.came()
        return result


class WatchedClient(LLMServerClient):
    """verl's client of a model's servers, which reports answers and engines to a `Progress`."""

    def __init__(self, client: LLMServerClient, progress: Progress):
        vars(self).update(vars(client))
        self._progress = progress

    async def _acquire_server(self, request_id: str, **extra: Any) -> tuple[str, Any]:
        address, server = await super()._acquire_server(request_id, **extra)
        self._progress.engines[address] = server
        call = functools.partial(self._progress.call, server)
        return address, SimpleNamespace(generate=SimpleNamespace(remote=call))


def watched(client: Any, progress: Progress) -> Any:
    """A client whose answers restart the clock."""
    if isinstance(client, RemoteTeacherClient):
        client.answered = progress.came
        return client
    return WatchedClient(client, progress)


def _now() -> float:
    return asyncio.get_running_loop().time()
