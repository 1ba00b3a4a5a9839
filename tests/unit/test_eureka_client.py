"""py-eureka-client, as it comes, against Eureka's API on one host and on several."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from py_eureka_client import eureka_basic, eureka_client

from netd.registry.eureka.registrations import service_id
from tests.unit.eureka_lab import Cluster, cluster, until

# The client writes to its log in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")

NEVER_S = 3600  # the test itself does what the client's timer would do
ID = "192.0.2.8:orders:8080"


def new_client(*urls: str, **more: Any) -> Any:
    """A client that knows several servers, as people configure it."""
    return eureka_client.EurekaClient(
        **{
            "eureka_server": ",".join(f"{url}/eureka" for url in urls),
            "app_name": "orders",
            "instance_ip": "192.0.2.8",
            "instance_host": "web-1",
            "instance_port": 8080,
            "renewal_interval_in_secs": NEVER_S,
            **more,
        }
    )


async def beat(one: Any) -> None:
    """What the client's timer does."""
    await one._EurekaClient__heartbeat()


def instances(one: Any) -> dict[str, str]:
    return {
        each.instanceId: each.status
        for app in one.applications.applications
        for each in app.instances
    }


async def test_its_whole_life(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab:
        (host,) = lab.hosts
        one = new_client(host.url, metadata={"zone": "a", "my_key": "1"})
        await one.start()
        (service,) = lab.services.values()
        assert (service.name, service.status) == ("orders", "passing")
        assert instances(one) == {ID: "UP"}
        host.calls.clear()
        await beat(one)
        assert host.calls == [f"report {service.id}"]
        await one.status_update("OUT_OF_SERVICE")
        assert lab.services[service.id].status == "critical"
        await beat(one)
        assert instances(one) == {ID: "OUT_OF_SERVICE"}
        await one.delete_status_override()
        await one.register()
        assert lab.services[service.id].status == "passing"
        await one.stop()
        assert not lab.services


async def test_it_finds_and_calls_what_others_have_registered(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="well")

    app = web.Application()
    app.router.add_get("/health", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        async with cluster(tmp_path) as lab:
            lab.register("shop", "shop-1", address="127.0.0.1", port=port)
            lab.register("shop", "shop-2", address="127.0.0.1", port=port, status="critical")
            one = new_client(lab.hosts[0].url, should_register=False)
            await one.start()
            assert instances(one) == {"shop-1": "UP", "shop-2": "DOWN"}
            assert await one.do_service("SHOP", "/health") == "well"
            await one.stop()
    finally:
        await runner.cleanup()


async def test_it_follows_by_deltas(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab:
        lab.register("shop", "shop-1")
        one = new_client(lab.hosts[0].url, should_register=False)
        await one.start()
        pulled = one.applications
        # As many that are up as before: the hash code alone would not tell.
        lab.drop("shop-1")
        lab.register("shop", "shop-2")
        await beat(one)
        assert instances(one) == {"shop-2": "UP"}
        lab.register("shop", "shop-2", status="critical")
        await beat(one)
        assert instances(one) == {"shop-2": "DOWN"}
        assert one.applications is pulled
        lab.register("db", "db-1")  # an application that is new: it asks for all
        await beat(one)
        assert instances(one) == {"shop-2": "DOWN", "db-1": "UP"}
        await one.stop()


async def test_all_ways_to_ask(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab:
        url = f"{lab.hosts[0].url}/eureka"
        one = new_client(lab.hosts[0].url, secure_vip_addr="orders-secure", vip_adr="a,orders")
        await one.start()
        for found in (
            await eureka_basic.get_applications(url),
            await eureka_basic.get_delta(url),
            await eureka_basic.get_vip(url, "orders"),
            await eureka_basic.get_secure_vip(url, "orders-secure"),
        ):
            assert [each.name for each in found.applications] == ["ORDERS"]
            assert found.appsHashcode == "UP_1_"
        app = await eureka_basic.get_application(url, "orders")
        assert [each.instanceId for each in app.instances] == [ID]
        instance = await eureka_basic.get_app_instance(url, "orders", ID)
        assert (instance.port.port, instance.port.enabled) == (8080, True)
        assert (instance.securePort.port, instance.securePort.enabled) == (9443, False)
        assert instance.metadata == {"management.port": "8080", "zone": "default"}
        assert instance.leaseInfo.durationInSecs == 90
        assert instance.dataCenterInfo.name == "MyOwn"
        assert (instance.countryId, instance.actionType) == (1, "ADDED")
        await one.stop()


async def test_it_survives_the_loss_of_any_of_its_servers(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as lab:
        one = new_client(*(host.url for host in lab.hosts))
        await one.start()
        assert _holders(lab) == ["host-1"]
        first, second, third = lab.hosts
        await _lose(lab, first.node)
        await beat(one)  # it is not there any more: it registers with the second
        await beat(one)
        assert _holders(lab) == ["host-2"]
        assert instances(one) == {ID: "UP"}
        # The registry alone is lost: the daemon still says that the instance is there.
        lab.server_of(second).close()
        await second.eureka.server.close()
        await beat(one)
        await until(lambda: "host-3" in _holders(lab))
        assert instances(one) == {ID: "UP"}
        assert third.view.registered(("ORDERS", ID, ""))[0].service.id == service_id(
            "ORDERS", ID, "host-3"
        )
        await one.stop()
        await until(lambda: not third.own())


def _holders(lab: Cluster) -> list[str]:
    return sorted(each.node for each in lab.services.values())


async def _lose(lab: Cluster, node: str) -> None:
    """A host dies, and the others find it dead."""
    (host,) = (each for each in lab.hosts if each.node == node)
    lab.server_of(host).close()
    await host.eureka.server.close()
    for service in host.own():
        lab.drop(service.id)
