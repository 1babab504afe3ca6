"""A teacher behind vLLM's own server: the scores of a teacher of the run; a killed server ends the run with a cause."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from prefix_opd.miniature import shipped_models
from prefix_opd.run.log import read_metrics

ROOT = Path(__file__).parents[1]
SMALL = [
    "experiment=tiny/prefix_24",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "data.train_batch_size=4",
    "actor_rollout_ref.rollout.n=2",
]
RETURN_WITHIN = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("remote")


def serve(folder, port):
    """Start the server; it answers when this returns."""
    arguments = [
        str(shipped_models()["teacher"]),
        "--served-model-name",
        "judge",
        "--host",
        "127.0.0.1",
        "--port",
        port,
    ]
    arguments += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "400", "--gpu-memory-utilization", "0.1"]
    with (folder / "server.log").open("w") as log:
        command = [sys.executable, str(ROOT / "tests" / "teacher_server.py"), *map(str, arguments)]
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + RETURN_WITHIN
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v1/models").is_success:
                return server
        except httpx.TransportError:
            time.sleep(1)
    end(server)
    raise AssertionError((folder / "server.log").read_text()[-3000:])


def end(server):
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.fixture(scope="module")
def runs(folder):
    """Name -> exit code of runs whose server is killed while the last of them trains."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    remote = [
        f"prefix_opd.teacher.url=http://127.0.0.1:{port}/v1",
        "prefix_opd.teacher.served_name=judge",
        "ray_kwargs.ray_init.num_gpus=1",
    ]
    two, many = (["trainer.total_training_steps=2"], ["trainer.total_training_steps=200", "trainer.save_freq=1"])
    planned = {"own": [*SMALL, *two], "remote": [*SMALL, *remote, *two], "killed": [*SMALL, *remote, *many]}
    (folder / "runs.json").write_text(json.dumps(planned))
    server = serve(folder, port)
    try:
        command = [sys.executable, str(ROOT / "tests" / "warm_runs.py"), str(folder / "runs.json")]
        running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until = time.monotonic() + 2 * RETURN_WITHIN
        while not (folder / "killed" / "global_step_1").is_dir() and running.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.5)
    finally:
        end(server)
    said, _ = running.communicate(timeout=RETURN_WITHIN)
    assert running.returncode == 0, said
    return json.loads((folder / "codes.json").read_text())


def test_the_scores_are_those_of_a_teacher_of_the_run(folder, runs):
    assert runs["own"] == runs["remote"] == 0, (folder / "remote.log").read_text()[-3000:]
    for own, remote in zip(read_metrics(folder / "own"), read_metrics(folder / "remote"), strict=True):
        for name in ("prompts", "rollouts"):
            key = f"prefix_opd/fingerprint/{name}"
            assert own[key] == remote[key], "the same rollouts"
        for name in ("prefix_opd/reverse_kl/mean", "actor/grad_norm"):
            assert own[name] == pytest.approx(remote[name], rel=1e-4)


def test_a_killed_server_ends_the_run_with_the_cause(folder, runs):
    log = (folder / "killed.log").read_text()
    assert runs["killed"] == 3, log[-3000:]
    (stopped,) = (line for line in log.splitlines() if line.startswith("stopped: "))
    assert "the remote teacher at 127.0.0.1:" in stopped
    assert (folder / "killed" / "global_step_1").is_dir(), "the run goes on from here when the server is back"
