"""Consul's API on two hosts of one cluster, with their real daemons on the kernel in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from netd.registry.catalog.catalog import Catalog
from netd.registry.consul.api import ConsulApi, unix_ms
from netd.registry.consul.keys import Keys
from netd.registry.http.listeners import Wanted
from netd.registry.names import Names
from tests.unit.daemon_lab import answering, daemon
from tests.unit.engine_fixture import Host
from tests.unit.memory_cluster import Mesh

DEADLINE_S = 10.0


class Place(NamedTuple):
    """A host with its registry, which answers at `url`."""

    host: Host
    names: Names
    catalog: Catalog
    url: str
    http: aiohttp.ClientSession

    async def get(self, path: str) -> Any:
        async with self.http.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def put(self, path: str, body: Any = None, status: int = 200) -> str:
        async with self.http.put(self.url + path, json=body) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return text


@asynccontextmanager
async def place(folder: Path, mesh: Mesh, number: int) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        of = await stack.enter_async_context(daemon(folder, mesh, number))
        catalog, keys = Catalog(unix_ms), Keys(of.socket)
        stack.push_async_callback(keys.close)
        consul = ConsulApi(
            of.calls,
            catalog,
            of.callers,
            drain=of.feed.drain,
            changed=lambda: None,
            wanted=lambda settings: Wanted(),
            more=(keys.routes,),
        )
        url = await stack.enter_async_context(answering(of, consul, catalog))
        timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        async with asyncio.timeout(DEADLINE_S):
            while not of.feed.connected or catalog.node(f"node-{number}") is None:
                await asyncio.sleep(0.005)
        yield Place(of.host, of.names, catalog, url, http)


async def until(where: Place, path: str, condition: Callable[[Any], bool]) -> Any:
    """Ask as Consul's clients do who wait for a change, until it holds."""
    index = "0"
    mark = "&" if "?" in path else "?"
    async with asyncio.timeout(DEADLINE_S):
        while True:
            url = f"{where.url}{path}{mark}index={index}&wait=5s"
            async with where.http.get(url) as answer:
                index = answer.headers["X-Consul-Index"]
                found = await answer.json()
            if condition(found):
                return found


@pytest.fixture
async def places(tmp_path: Path) -> AsyncIterator[tuple[Place, Place]]:
    mesh = Mesh()
    async with place(tmp_path, mesh, 1) as first, place(tmp_path, mesh, 2) as second:
        await second.host.cluster.join([first.host.cluster.address], None)
        async with asyncio.timeout(DEADLINE_S):
            while any(len(each.catalog.nodes) < 2 for each in (first, second)):
                await asyncio.sleep(0.005)
        yield first, second


async def test_what_is_registered_on_one_host_is_seen_on_the_other(
    places: tuple[Place, Place],
) -> None:
    first, second = places
    body = {"ID": "web/1", "Name": "Web.App", "Port": 80, "Address": "10.9.9.9"}
    body |= {"Check": {"TTL": "1m", "CheckID": "own name"}, "EnableTagOverride": True}
    await first.put("/v1/agent/service/register", body)
    (here,) = await first.get("/v1/health/service/web.app")
    (there,) = await until(second, "/v1/health/service/web.app", lambda rows: len(rows) == 1)
    for row in (here, there):
        assert row["Node"]["Node"] == "node-1"
        assert row["Service"]["ID"] == "web/1"
        assert row["Service"]["EnableTagOverride"] is True
        assert [check["CheckID"] for check in row["Checks"]] == ["serfHealth", "own name"]
    assert await second.get("/v1/agent/services") == {}
    await second.put("/v1/agent/service/deregister/web%2F1", status=404)
    await first.put("/v1/agent/check/pass/own%20name?note=well")
    assert [c["Output"] for c in await first.get("/v1/health/checks/web.app")] == ["well"]
    await until(second, "/v1/health/service/web.app?passing", lambda rows: len(rows) == 1)
    await first.put("/v1/agent/service/deregister/web%2F1")
    assert await first.get("/v1/catalog/service/web.app") == []
    await until(second, "/v1/catalog/service/web.app", lambda rows: rows == [])


async def test_one_id_on_two_hosts_is_two_instances(places: tuple[Place, Place]) -> None:
    for each in places:
        await each.put("/v1/agent/service/register", {"name": "redis", "port": 6379})
    for each in places:
        await until(each, "/v1/catalog/service/redis", lambda rows: len(rows) == 2)
    rows = await places[0].get("/v1/catalog/service/redis")
    assert [(row["Node"], row["ServiceID"]) for row in rows] == [
        ("node-1", "redis"),
        ("node-2", "redis"),
    ]
    await places[0].put("/v1/agent/service/deregister/redis")
    assert [row["Node"] for row in await places[0].get("/v1/catalog/service/redis")] == ["node-2"]


async def test_the_daemon_takes_all_kinds_of_checks(places: tuple[Place, Place]) -> None:
    first, _ = places
    await first.put("/v1/agent/service/register", {"name": "db", "port": 5432})
    checks = [
        {"http": "http://127.0.0.1:9/x", "interval": "10s", "timeout": "1s", "method": "HEAD"},
        {"tcp": "127.0.0.1:9", "interval": 10},
        {"udp": "127.0.0.1:9", "interval": "10s"},
        {"grpc": "127.0.0.1:9/x", "interval": "10s"},
        {"ttl": "100ms", "deregister_critical_service_after": "1m"},
        {"alias_service": "db"},
    ]
    await first.put("/v1/agent/service/register", {"name": "a", "port": 80, "checks": checks})
    found = await first.get("/v1/agent/checks")
    assert [found[f"service:a:{n}"]["Type"] for n in range(1, 7)] == [
        "http",
        "tcp",
        "udp",
        "grpc",
        "ttl",
        "alias",
    ]
    assert found["service:a:6"]["Status"] == "passing"


async def test_checks_and_maintenance_of_the_host_itself(places: tuple[Place, Place]) -> None:
    first, _ = places
    await first.put("/v1/agent/service/register", {"name": "a", "port": 80})
    await first.put("/v1/agent/check/register", {"name": "disk", "ttl": "1m"})
    assert set(await first.get("/v1/agent/checks")) == {"disk"}
    assert await first.get("/v1/health/service/a?passing") == []
    await first.put("/v1/agent/check/pass/disk")
    assert len(await first.get("/v1/health/service/a?passing")) == 1
    await first.put("/v1/agent/maintenance?enable=true&reason=move")
    assert set(await first.get("/v1/agent/checks")) == {"disk", "_node_maintenance"}
    await first.put("/v1/agent/check/deregister/disk")
    await first.put("/v1/agent/maintenance?enable=false")
    assert await first.get("/v1/agent/checks") == {}
    assert {each.name for each in first.host.engine.services.all()} == {"a"}


async def test_an_alias_of_a_node_and_of_what_is_on_it(places: tuple[Place, Place]) -> None:
    first, second = places
    await second.put("/v1/agent/service/register", {"name": "db", "check": {"TTL": "1h"}})
    await second.put("/v1/agent/check/pass/service:db")
    await until(first, "/v1/health/service/db?passing", lambda rows: len(rows) == 1)
    for name, check in (
        ("node", {"AliasNode": "NODE-2"}),
        ("both", {"AliasNode": "node-2", "AliasService": "db"}),
        ("own", {"AliasNode": "node-1"}),
        ("here", {"AliasNode": "node-1", "AliasService": "own"}),
    ):
        await first.put("/v1/agent/service/register", {"name": name, "check": check})
    await until(first, "/v1/health/state/passing", lambda rows: len(rows) == 7)
    await second.put("/v1/agent/check/fail/service:db")
    rows = await until(first, "/v1/health/state/critical", lambda rows: len(rows) == 2)
    assert {row["ServiceName"] for row in rows} == {"db", "both"}
    await second.put("/v1/agent/check/register", {"Name": "disk", "TTL": "1h"})
    await until(
        first, "/v1/health/checks/node?filter=Status==critical", lambda rows: len(rows) == 1
    )
    await first.put("/v1/agent/service/register", {"name": "x", "check": {"TTL": "1s"}})


async def test_names_have_what_is_registered_and_no_nodes(places: tuple[Place, Place]) -> None:
    first, _ = places
    everything = first.names.scope_of(None)
    await first.put("/v1/agent/service/register", {"name": "web", "address": "10.9.9.9"})
    node = {"Node": "printer", "Address": "10.7.0.1", "Service": {"Service": "lpr", "Port": 515}}
    assert await first.put("/v1/catalog/register", node) == "true"
    for name, data in (("web", ["10.9.9.9"]), ("lpr", ["10.7.0.1"]), ("_node", [])):
        answer = first.names.look_up(f"{name}.service.netd.internal", "A", everything)
        assert [record.data for record in answer.records] == data
    assert await first.put("/v1/catalog/deregister", {"Node": "printer"}) == "true"
    assert await first.get("/v1/catalog/service/lpr") == []


async def test_what_the_daemon_finds_wrong_is_told(places: tuple[Place, Place]) -> None:
    first, _ = places
    for body in (
        {"name": "a", "address": "example.org"},
        {"name": "a", "tags": ["x" * 300]},
        {"name": "a", "kind": "x" * 20_000},
        {"name": "a", "check": {"tcp": "::", "interval": "1s"}},
    ):
        text = await first.put("/v1/agent/service/register", body, status=400)
        assert text
    assert first.host.engine.services.all() == ()


async def test_what_is_passed_again_lives_on_and_is_told_to_nobody(
    places: tuple[Place, Place],
) -> None:
    first, second = places
    body = {"Name": "a", "Check": {"TTL": "30s", "Status": "passing"}}
    await first.put("/v1/agent/service/register", body)
    await until(second, "/v1/health/service/a?passing", bool)
    services, revision = first.host.engine.services, first.host.engine._parts.feed.revision

    async def pass_again(times: int) -> None:
        await first.put("/v1/agent/check/pass/service:a")
        async with asyncio.timeout(DEADLINE_S):
            while services.counters()["service_check_results"] < times:
                await asyncio.sleep(0.005)

    for times in (1, 2, 3):
        await pass_again(times)
        first.host.clock.now_s += 25
        services._own.ring_due()
        assert [each.status for each in services.all(name="a")] == ["passing"]
    assert first.host.engine._parts.feed.revision == revision
    first.host.clock.now_s += 6
    services._own.ring_due()
    assert await until(second, "/v1/health/service/a?passing", lambda found: not found) == []
    await first.put("/v1/agent/check/pass/service:a")
    assert len(await first.get("/v1/health/service/a?passing")) == 1
