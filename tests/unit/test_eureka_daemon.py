"""Eureka's API on two hosts of one cluster, with their real daemons on the kernel in memory."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

from netd.model.service import CheckSpec, Maintenance, Service, ServiceSpec
from netd.registry.eureka.api import EurekaApi
from netd.registry.http.listeners import Wanted
from tests.unit.daemon_lab import answering, daemon
from tests.unit.engine_fixture import Host
from tests.unit.eureka_lab import Client, instance_object, until
from tests.unit.memory_cluster import Mesh
from tests.unit.test_eureka_server import ID, PATH, statuses


class Place(NamedTuple):
    """A host with its registry. `url` is where the clients of `Client` look for it."""

    host: Host
    eureka: EurekaApi
    url: str

    @property
    def services(self) -> dict[str, str]:
        """The host that has each instance."""
        return {each.name: each.node for each in self.host.engine.services.all()}

    def only(self) -> Service:
        (service,) = self.host.engine.services.all()
        return service


@asynccontextmanager
async def place(folder: Path, mesh: Mesh, number: int) -> AsyncIterator[Place]:
    async with daemon(folder, mesh, number) as of:
        eureka = EurekaApi(
            of.calls,
            of.callers,
            drain=of.feed.drain,
            changed=lambda: None,
            wanted=lambda settings: Wanted(),
        )
        async with answering(of, eureka) as url:
            await until(lambda: eureka.view.ready)
            yield Place(of.host, eureka, url)


class World(NamedTuple):
    places: tuple[Place, Place]
    clients: tuple[Client, Client]


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Two hosts of one cluster, and a client of each."""
    async with AsyncExitStack() as stack:
        mesh = Mesh()
        one = await stack.enter_async_context(place(folder, mesh, 1))
        two = await stack.enter_async_context(place(folder, mesh, 2))
        await two.host.cluster.join([one.host.cluster.address], None)
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        yield World((one, two), (Client(one, session), Client(two, session)))


async def test_a_lease_goes_from_host_to_host(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        (first, second), (one, two) = made.places, made.clients
        assert await one.register() == 204
        assert first.only().status == "passing"
        await until(lambda: len(second.eureka.view) == 1)
        assert (await two.call("PUT", f"{PATH}?lastDirtyTimestamp=1000")).status == 200
        await until(lambda: first.services == second.services == {"orders": "node-2"})
        assert await statuses(one) == await statuses(two) == {ID: "UP"}
        # What one host has is cancelled by another.
        assert (await one.call("DELETE", PATH)).status == 200
        await until(lambda: first.services == second.services == {})


async def test_statuses_and_leases_are_the_daemons(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        (first, second), (one, two) = made.places, made.clients
        assert await one.register(status="STARTING") == 204
        assert first.only().status == "critical"
        await until(lambda: len(second.eureka.view) == 1)
        assert await statuses(two) == {ID: "STARTING"}
        assert await one.register(lastDirtyTimestamp="1001") == 204
        assert first.only().status == "passing"
        assert (await one.call("PUT", f"{PATH}/status?value=OUT_OF_SERVICE")).status == 200
        assert first.only().status == "critical"
        assert (await one.call("DELETE", f"{PATH}/status")).status == 200
        assert first.only().status == "passing"
        await first.host.engine.services.maintain(first.only().id, Maintenance(enable=True))
        assert await statuses(one) == {ID: "OUT_OF_SERVICE"}
        await first.host.engine.services.maintain(first.only().id, Maintenance(enable=False))
        assert await statuses(one) == {ID: "UP"}


async def test_services_of_others_are_instances(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        (first, _), (one, two) = made.places, made.clients
        spec = ServiceSpec(
            name="shop",
            address="192.0.2.7",
            port=80,
            tags=("v1",),
            checks=(CheckSpec(kind="ttl", ttl_s=60.0),),
        )
        await first.host.engine.services.put("shop-1", spec)
        await until(lambda: len(made.places[1].eureka.view) == 1)
        assert await statuses(one) == await statuses(two) == {"shop-1": "DOWN"}
        found = (await two.get("/eureka/apps/SHOP/shop-1"))["instance"]
        assert (found["ipAddr"], found["metadata"]) == ("192.0.2.7", {"tags": "v1"})
        answer = await two.call("DELETE", "/eureka/apps/SHOP/shop-1")
        assert (answer.status, b"node-1" in answer.body) == (409, True)
        assert (await one.call("DELETE", "/eureka/apps/SHOP/shop-1")).status == 200
        await until(lambda: len(made.places[1].eureka.view) == 0)


async def test_what_a_daemon_does_not_keep(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        (first, _), (one, _) = made.places, made.clients
        big = {f"key-{number}": "x" * 2_000 for number in range(9)}
        instance = instance_object(metadata=big)
        answer = await one.call("POST", "/eureka/apps/ORDERS", json={"instance": instance})
        assert answer.status == 400
        many = {f"key-{number}": "x" * 20 for number in range(100)}
        assert await one.register(metadata=many) == 204
        assert len(first.only().meta) == 64
        assert (await one.get(PATH))["instance"]["metadata"] == many
        for odd in ("a/b c", "ä" * 300, "x" * 500, "100%"):
            assert await one.register(instanceId=odd, app="Ä.B") == 204
        assert len(await statuses(one)) == 5
