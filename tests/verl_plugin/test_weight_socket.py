"""The two ends of the socket agree on a name that no other run on the machine has."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from prefix_opd.verl_plugin.server import weight_socket

JOB = "01000000"


@pytest.fixture
def in_session(monkeypatch):
    """Simulate a Ray session: each new cluster gives its first job the same number."""

    def enter(name):
        context = SimpleNamespace(get_session_name=lambda: name, get_job_id=lambda: JOB)
        monkeypatch.setattr("ray.get_runtime_context", lambda: context)

    return enter


class ServerAdapter:
    """The attributes of verl's adapter at the trainer's end."""

    def __init__(self):
        self.zmq_handle = f"ipc:///tmp/rl-colocate-zmq-{JOB}-replica-0-rank-1.sock"


class Server:
    """The attributes of verl's server at the engine's end."""

    def __init__(self):
        os.environ["VERL_RAY_JOB_ID"] = JOB


def names(monkeypatch) -> tuple[str, str]:
    """The socket's name at the trainer, and at the engine as verl builds it there."""
    adapter = type("Adapter", (), {"__init__": weight_socket.renamed_at_the_trainer(ServerAdapter.__init__)})
    server = type("Named", (), {"__init__": weight_socket.renamed_at_the_engine(Server.__init__)})
    monkeypatch.setenv("VERL_RAY_JOB_ID", "")
    server()
    return adapter().zmq_handle, f"ipc:///tmp/rl-colocate-zmq-{os.environ['VERL_RAY_JOB_ID']}-replica-0-rank-1.sock"


def test_both_ends_agree_and_runs_do_not(in_session, monkeypatch):
    found = []
    for session in ("session_2026-11-23_15-51-24_000001_21892", "session_2026-11-23_15-51-24_000002_21893"):
        in_session(session)
        trainer, engine = names(monkeypatch)
        assert trainer == engine and session in trainer
        assert len(trainer.removeprefix("ipc://")) < 108, "a Unix socket's path"
        found.append(trainer)
    assert found[0] != found[1]


def test_verl_still_makes_such_a_name(in_session, monkeypatch):
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

    in_session("session_2026-11-23_15-51-24_000001_21892")
    trainer, _ = names(monkeypatch)
    monkeypatch.setenv("VERL_REPLICA_RANK", "0")
    worker = SimpleNamespace(model_runner=None, local_rank=1)
    assert vLLMColocateWorkerExtension._get_zmq_handle(worker) == trainer
