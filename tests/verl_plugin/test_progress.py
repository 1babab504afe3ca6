"""The clock of an agent-loop worker, in a time that jumps to the next timer; and what a server says of its engine."""

import argparse
import asyncio
import selectors
import socket
import threading
import time
import types

import pytest
import uvicorn
from fastapi import FastAPI
from verl.workers.rollout.llm_server import LLMServerClient

from prefix_opd.verl_plugin.server import progress as server
from prefix_opd.verl_plugin.worker import progress as worker
from prefix_opd.verl_plugin.worker.progress import NoProgress, Progress, WatchedClient

LIMIT = 100.0


class SkippingTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self):
        selector = selectors.DefaultSelector()
        really_select = selector.select

        def select(timeout=None):
            self.now += timeout or 0.0
            return really_select(0)

        selector.select = select
        self.now = 0.0
        super().__init__(selector)

    def time(self):
        return self.now


def run(main):
    """The result of ``main``, and its duration in seconds by the loop's clock."""
    with asyncio.Runner(loop_factory=SkippingTime) as runner:
        result = runner.run(main)
        return result, runner.get_loop().time()


class Engine:
    """A server's actor: one request at a time, one token per ``token`` seconds, until ``stops_at``."""

    def __init__(self, tokens, token=1.0, stops_at=float("inf")):
        self.tokens, self.token, self.stops_at = tokens, token, stops_at
        self.last_token, self.free = 0.0, asyncio.Lock()
        self.running, self.aborted, self.asked = set(), [], 0
        self.generate = types.SimpleNamespace(remote=self.answer)

    def answer(self, request_id, **request):
        return asyncio.ensure_future(self._answer(request_id))

    async def _answer(self, request_id):
        self.running.add(request_id)
        try:
            async with self.free:
                for _ in range(self.tokens):
                    if self.now() >= self.stops_at:
                        await asyncio.Event().wait()
                    await asyncio.sleep(self.token)
                    self.last_token = self.now()
        except asyncio.CancelledError:
            self.aborted.append(request_id)
            raise
        finally:
            self.running.discard(request_id)
        return request_id

    async def seconds_since_token(self, address):
        self.asked += 1
        return self.now() - self.last_token

    @staticmethod
    def now():
        return asyncio.get_running_loop().time()


@pytest.fixture
def cancelled(monkeypatch):
    """Replaces Ray's cancel of a call by the cancel of a task."""
    monkeypatch.setattr(worker.ray, "cancel", lambda task: task.cancel())


def rollouts(engine, count, asks=True):
    """The results of ``count`` rollouts that start at once."""

    async def main():
        progress = Progress(LIMIT, engine.seconds_since_token)
        if asks:
            progress.engines["engine"] = engine
        each = [progress.watch(progress.call(engine, request_id=index)) for index in range(count)]
        found = await asyncio.gather(*each, return_exceptions=True)
        await asyncio.sleep(0)  # what was cancelled ends
        return found

    return run(main())


def test_a_queue_that_takes_longer_than_the_limit_is_waited_for(cancelled):
    found, seconds = rollouts(engine := Engine(tokens=60), 10)
    assert found == list(range(10)) and seconds == 600
    assert engine.asked == 0, "each that came back is progress enough"


def test_one_rollout_that_takes_longer_than_the_limit_is_waited_for_while_its_engine_generates(cancelled):
    found, seconds = rollouts(engine := Engine(tokens=1000), 1)
    assert found == [0] and seconds == 1000
    assert engine.asked == 10, "only when the limit is reached"


def test_a_long_rollout_is_given_up_where_no_engine_tells_of_its_tokens(cancelled):
    (error,), seconds = rollouts(engine := Engine(tokens=1000), 1, asks=False)
    assert isinstance(error, NoProgress) and seconds == LIMIT and engine.aborted == [0]


def test_an_engine_that_stops_is_given_up_the_limit_after_its_last_token_and_aborted(cancelled):
    found, seconds = rollouts(engine := Engine(tokens=60, stops_at=150), 5)
    assert found[:2] == [0, 1] and all(isinstance(error, NoProgress) for error in found[2:])
    assert seconds == 150 + LIMIT
    assert sorted(engine.aborted) == [2, 3, 4] and not engine.running
    assert engine.asked == 2, "the rollout of second 120 and then the token of second 150; one asks for all"


def test_grading_takes_as_long_as_it_takes_and_then_the_limit_counts_again():
    async def main():
        progress = Progress(LIMIT)

        async def graded():
            with progress.standing_still():
                await asyncio.sleep(5 * LIMIT)
            return 1.0

        lost = progress.watch(asyncio.Event().wait())
        return await asyncio.gather(progress.watch(graded()), lost, return_exceptions=True)

    (score, error), seconds = run(main())
    assert score == 1.0 and isinstance(error, NoProgress) and seconds == 6 * LIMIT


def test_an_engine_that_fails_is_no_progress():
    async def main():
        progress = Progress(LIMIT)

        async def fails():
            await asyncio.sleep(60)
            raise RuntimeError("dead")

        broken = types.SimpleNamespace(generate=types.SimpleNamespace(remote=lambda **_: fails()))
        lost = progress.watch(asyncio.Event().wait())
        return await asyncio.gather(progress.watch(progress.call(broken)), lost, return_exceptions=True)

    (first, second), seconds = run(main())
    assert str(first) == "dead" and isinstance(second, NoProgress) and seconds == LIMIT


def test_verls_client_asks_through_the_clock(cancelled):
    engine = Engine(tokens=3)

    class Balancer:
        async def acquire(self, request_id):
            return "127.0.0.1:8000", engine

        async def none(self):
            return []

    balancer = Balancer()
    remote = types.SimpleNamespace
    handle = remote(
        acquire_server=remote(remote=balancer.acquire),
        release_server=remote(remote=lambda **_: None),
        get_all_servers=remote(remote=balancer.none),
        require_acquire_fields=remote(remote=balancer.none),
        require_release_fields=remote(remote=balancer.none),
    )
    config = remote(actor_rollout_ref=remote(rollout=remote(name="vllm")))

    async def main():
        progress = Progress(LIMIT)
        client = WatchedClient(LLMServerClient(config, handle), progress)
        asked = client.generate("a", prompt_ids=[1], sampling_params={})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asked, 2.5)
        await asyncio.sleep(0)
        return progress

    progress, _ = run(main())
    assert progress.engines == {"127.0.0.1:8000": engine} and len(engine.aborted) == 1 and not engine.running


def test_a_server_tells_how_long_ago_its_engine_generated_a_token(monkeypatch):
    noted = server.timed(lambda self, outputs: len(outputs))
    monkeypatch.setattr(server, "_last_token", time.monotonic() - 50)
    app = server.answering(lambda args: FastAPI())(argparse.Namespace())
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        serving = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=serving.run, args=([listening],), daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not serving.started and time.monotonic() < deadline:
                time.sleep(0.01)
            assert server.ask(address) == pytest.approx(50, abs=20)
            aborted, token = (types.SimpleNamespace(new_token_ids=ids) for ids in ([], [7]))
            assert noted(None, [aborted]) == 1 and server.ask(address) >= 50
            assert noted(None, [aborted, token]) == 2 and server.ask(address) < 20
        finally:
            serving.should_exit = True
            thread.join(30)
    assert server.ask(address) == float("inf"), "nobody answers there now"
