"""A run on one machine opens no port to others."""

import os
import socket
import subprocess
import sys

import pytest

from prefix_opd import cli
from prefix_opd.base import loopback
from prefix_opd.base.errors import UserError
from prefix_opd.config.compose import compose


@pytest.fixture
def no_addresses(monkeypatch):
    for name in ("RAY_ADDRESS", *loopback.LOOPBACK_ENVIRONMENT):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("overrides", "alone"),
    [
        (["experiment=tiny/schedule"], True),
        (["experiment=qwen3_8b/schedule", "layout=node_8x80gb"], True),
        (["experiment=qwen3_8b/schedule", "layout=multi_node"], False),
        (["experiment=tiny/schedule", "+ray_kwargs.ray_init.address=10.0.0.1:6379"], False),
        (["experiment=tiny/schedule", "distillation.nnodes=2"], False),
    ],
)
def test_a_run_on_one_machine_stays_on_it(overrides, alone, no_addresses):
    loopback.stay_on_loopback(compose(overrides))
    found = {name: os.environ.get(name) for name in loopback.LOOPBACK_ENVIRONMENT}
    assert found == (loopback.LOOPBACK_ENVIRONMENT if alone else dict.fromkeys(found))


def test_a_cluster_that_is_there_and_a_users_own_value_win(no_addresses, monkeypatch):
    config = compose(["experiment=tiny/schedule"])
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    loopback.stay_on_loopback(config)
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not loopback.is_one_machine(config)


ENGINES = {
    "doctor": ("doctor", "experiment=tiny/schedule", "--engines"),
    "analysis": ("analyze", "teacher-prefix", "experiment=tiny/full", "--problems", "1"),
}


@pytest.mark.parametrize("command", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize(("nodes", "alone"), [(1, True), (2, False)])
def test_commands_that_start_engines_stay_on_it_too(command, nodes, alone, no_addresses, monkeypatch):
    seen = []

    def start(*_, **__):
        seen.append({name: os.environ.get(name) for name in loopback.LOOPBACK_ENVIRONMENT})
        raise UserError("engine", "is not for this test")

    monkeypatch.setattr("prefix_opd.checks.doctor.WITH_ENGINES", ())  # they would import verl into this process
    monkeypatch.setattr("prefix_opd.checks.engines._answers", start)
    monkeypatch.setattr("prefix_opd.verl_plugin.server.offline_engine.OfflineEngine.__enter__", start)
    together = [f"distillation.nnodes={nodes}", f"ray_kwargs.ray_init.num_gpus={nodes + 1}"]
    monkeypatch.setattr(sys, "argv", ["prefix-opd", *command, *together])
    with pytest.raises(SystemExit):
        cli.main()
    assert seen == [loopback.LOOPBACK_ENVIRONMENT if alone else dict.fromkeys(loopback.LOOPBACK_ENVIRONMENT)]


def test_ray_then_takes_the_loopback_for_its_address(no_addresses):
    program = "import ray; print(ray.util.get_node_ip_address())"
    environment = {**os.environ, **loopback.LOOPBACK_ENVIRONMENT}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert ran.stdout.strip() == loopback.LOOPBACK, ran.stderr


RANK = """
import datetime, psutil, sys, torch
from prefix_opd.verl_plugin import our_run
our_run.install(["cpu_process_group"])
torch.distributed.init_process_group(backend=sys.argv[1], timeout=datetime.timedelta(60), init_method=None)
total = torch.ones(1)
torch.distributed.all_reduce(total)
heard = {one.laddr.ip for one in psutil.Process().net_connections(kind="tcp") if one.status == psutil.CONN_LISTEN}
torch.distributed.barrier()
print(total.item(), sorted(heard))
"""


@pytest.mark.parametrize("backend", ["cpu:gloo,cpu:gloo", "cpu:gloo"])  # as trainers and receivers of weights ask
def test_ranks_meet_on_the_loopback(backend):
    with socket.socket() as free:
        free.bind((loopback.LOOPBACK, 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": loopback.LOOPBACK, "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, backend],
            env={**os.environ, **loopback.LOOPBACK_ENVIRONMENT, **told, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=120)[0].strip() for rank in ranks] == ["2.0 ['127.0.0.1']"] * 2
