"""With one server the balancer is asked once; with several, each time."""

from __future__ import annotations

import asyncio

import pytest
import ray

from prefix_opd.verl_plugin.worker.shortcuts import asked_once, told_if_several


class _Remote:
    """A method of a Ray actor handle."""

    def __init__(self, method):
        self._method = method

    async def remote(self, *args, **kwargs):
        return self._method(*args, **kwargs)


class Balancer:
    def __init__(self, servers):
        self.get_all_servers = _Remote(lambda: list(servers))


class Client:
    """The parts of verl's client that a route uses."""

    def __init__(self, servers):
        self._load_balancer = Balancer(servers)
        self.acquired, self.released = [], []

    async def _acquire_server(self, request_id, **extra):
        self.acquired.append(request_id)
        return "server_0", "handle"

    def _release_server(self, server_id, request_id=None):
        self.released.append(request_id)


class DirectClient(Client):
    _acquire_server = asked_once(Client._acquire_server)
    _release_server = told_if_several(Client._release_server)


def _ask(client: Client, times: int) -> None:
    async def scenario():
        for i in range(times):
            server, _ = await client._acquire_server(f"r{i}", prompt_ids=[1])
            client._release_server(server, request_id=f"r{i}")

    asyncio.run(scenario())


@pytest.mark.parametrize(("servers", "asked"), [(["a"], 1), (["a", "b"], 5)])
def test_how_often_the_balancer_is_asked(servers, asked):
    client = DirectClient(servers)
    _ask(client, 5)
    assert len(client.acquired) == asked
    assert client.released == (client.acquired if len(servers) > 1 else [])


def test_verls_client_has_what_a_route_replaces():
    from verl.workers.rollout.llm_server import LLMServerClient
    from verl.workers.rollout.router import GlobalRequestLoadBalancer

    assert not ray.is_initialized()
    client = LLMServerClient(config=None, load_balancer_handle="balancer")
    assert client._load_balancer == "balancer" and client._acquire_server and client._release_server
    assert GlobalRequestLoadBalancer({"a": None}).get_all_servers() == ["a"]
