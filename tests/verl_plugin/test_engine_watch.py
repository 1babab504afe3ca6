"""A call that waits for an engine ends when the engine is dead, and only then."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from prefix_opd.base.errors import RunStopped
from prefix_opd.verl_plugin.trainer import engine_watch
from prefix_opd.verl_plugin.trainer.engine_watch import is_dead, while_alive


@pytest.fixture
def engine():
    """A server whose health endpoint returns ``engine.code``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(server.code if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.code, server.address = 200, f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def replica(engine):
    return SimpleNamespace(server_address=engine.address)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(engine_watch, "ASK_SECONDS", 0.05)


def test_health(engine):
    assert not is_dead(engine.address)
    engine.code = 503
    assert is_dead(engine.address)
    engine.code = 500  # something else is wrong: it lives
    assert not is_dead(engine.address)


def test_a_call_that_takes_longer_than_its_limit_is_given_up_although_the_engine_lives(engine):
    with pytest.raises(RunStopped, match=r"sending weights took longer than 0.2 s \(prefix_opd"):
        while_alive(threading.Event().wait, [replica(engine)], "sending weights", 0.2)


def test_nobody_listens(engine):
    engine.shutdown()
    engine.server_close()
    assert is_dead(engine.address)


def test_the_result_or_the_error_comes_through(engine):
    slow = while_alive(lambda: threading.Event().wait(0.3) or 2, [replica(engine)], "sending weights")
    assert slow == 2

    def fails():
        raise ValueError("no such step")

    with pytest.raises(ValueError, match="no such step"):
        while_alive(fails, [replica(engine)], "sending weights")


def test_a_dead_engine_ends_a_wait_that_would_never_end(engine):
    engine.code = 503
    for_ever = threading.Event()
    with pytest.raises(RunStopped, match=f"sending weights: the engine at {engine.address} has died"):
        while_alive(for_ever.wait, [replica(engine)], "sending weights")
    for_ever.set()


def test_a_proxy_of_the_environment_is_not_asked(engine, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not is_dead(engine.address)
