"""Tokens of Consul's API on two hosts of one cluster, with their real daemons in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from netd.model.consul_token import hash_of
from netd.model.directory import RegistrySettings
from netd.registry.catalog.catalog import Catalog
from netd.registry.consul.acl import Acl
from netd.registry.consul.api import ConsulApi, unix_ms
from netd.registry.consul.keys import Keys
from netd.registry.http.listeners import Wanted
from tests.unit.daemon_lab import answering, daemon
from tests.unit.engine_fixture import Host
from tests.unit.memory_cluster import Mesh

DEADLINE_S = 10.0
ROOT = "6b2f1c1e-7f65-4d35-9d60-6f6d9f5f4f11"
SETTINGS = RegistrySettings(consul_acl=True, consul_acl_token=hash_of(ROOT))


class Place:
    """A host with its registry, which answers at `url`."""

    def __init__(self, host: Host, acl: Acl, url: str, http: aiohttp.ClientSession) -> None:
        self.host = host
        self.acl = acl
        self._url = url
        self._http = http

    async def ask(
        self, method: str, path: str, body: Any = None, token: str = ROOT
    ) -> tuple[int, str]:
        headers = {"X-Consul-Token": token}
        call = self._http.request(method, self._url + path, json=body, headers=headers)
        async with call as answer:
            return answer.status, await answer.text()

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-Consul-Token": ROOT}
        call = self._http.request(method, self._url + path, json=body, headers=headers)
        async with call as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


@asynccontextmanager
async def place(folder: Path, mesh: Mesh, number: int) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        of = await stack.enter_async_context(daemon(folder, mesh, number))
        catalog, keys = Catalog(unix_ms), Keys(of.socket)
        stack.push_async_callback(keys.close)
        acl = Acl(keys.api, keys.watches, lambda: SETTINGS)
        stack.push_async_callback(acl.close)
        consul = ConsulApi(
            of.calls,
            catalog,
            of.callers,
            drain=of.feed.drain,
            changed=lambda: None,
            wanted=lambda settings: Wanted(),
            more=(keys.routes, acl.routes),
            gate=acl.gate,
        )
        url = await stack.enter_async_context(answering(of, consul, catalog))
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        async with asyncio.timeout(DEADLINE_S):
            while not of.feed.connected or catalog.node(f"node-{number}") is None:
                await asyncio.sleep(0.005)
        yield Place(of.host, acl, url, http)


@pytest.fixture
async def places(tmp_path: Path) -> AsyncIterator[tuple[Place, Place]]:
    mesh = Mesh()
    async with place(tmp_path, mesh, 1) as first, place(tmp_path, mesh, 2) as second:
        await second.host.cluster.join([first.host.cluster.address], None)
        async with asyncio.timeout(DEADLINE_S):
            while (await second.ask("GET", "/v1/kv/x"))[0] != 404:
                await asyncio.sleep(0.01)
        yield first, second


async def test_a_token_holds_on_all_hosts_from_when_it_was_made(
    places: tuple[Place, Place],
) -> None:
    for number, (here, there) in enumerate((places, places[::-1])):
        name = f"p{number}"
        rules = 'node_prefix "" { policy = "read" }'
        await here.json("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        made = await there.json("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})
        for each in places:
            status, text = await each.ask("GET", "/v1/acl/token/self", token=made["SecretID"])
            assert status == 200, text
            status, text = await each.ask("GET", "/v1/catalog/nodes", token=made["SecretID"])
            assert "node-1" in text


async def test_a_token_that_is_gone_is_gone_on_all_hosts(places: tuple[Place, Place]) -> None:
    first, second = places
    made = await first.json("PUT", "/v1/acl/token", {})
    secret, path = made["SecretID"], f"/v1/acl/token/{made['AccessorID']}"
    assert (await second.ask("GET", "/v1/acl/token/self", token=secret))[0] == 200
    assert await first.json("DELETE", path) is True
    async with asyncio.timeout(DEADLINE_S):
        while (await second.ask("GET", "/v1/acl/token/self", token=secret))[0] != 403:
            await asyncio.sleep(0.01)


async def test_many_tokens_that_nobody_knows_hide_none_that_is_new(
    places: tuple[Place, Place],
) -> None:
    """Those who ask for unknown ones have keys read all the time, also while one is made."""
    first, second = places
    stop = asyncio.Event()

    async def guess() -> None:
        while not stop.is_set():
            assert (await second.ask("GET", "/v1/agent/self", token="x"))[0] == 403

    guessing = [asyncio.ensure_future(guess()) for _ in range(8)]
    for _ in range(8):
        made = await first.json("PUT", "/v1/acl/token", {})
        status, text = await second.ask("GET", "/v1/acl/token/self", token=made["SecretID"])
        assert status == 200, text
    stop.set()
    await asyncio.gather(*guessing)
