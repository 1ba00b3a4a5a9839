"""Eureka's API by HTTP: on one host, for containers, and between hosts."""

import asyncio
import gzip
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from netd.model.directory import Entry, RegistrySettings, ZoneEntry
from netd.model.service import Check, Maintenance
from netd.registry.eureka.changes import CHANGES_MAX, KEPT_S, Changes
from netd.registry.eureka.objects import to_object
from netd.registry.eureka.registrations import DEREGISTER_AFTER_S, service_id, service_name
from netd.registry.eureka.seen import Seen
from tests.unit.eureka_lab import (
    CONTAINER,
    ENDPOINT,
    NEIGHBOUR,
    RED,
    Client,
    Clock,
    Kept,
    client,
    cluster,
    instance_object,
    until,
)

ID = "web-1:orders:8080"
PATH = "/eureka/apps/ORDERS/web-1%3Aorders%3A8080"


async def statuses(one: Client) -> dict[str, str]:
    """What `apps` shows: status by instance."""
    found = await one.get("/eureka/apps")
    return {
        each["instanceId"]: each["status"]
        for app in found["applications"]["application"]
        for each in app["instance"]
    }


async def address(one: Client, app: str, instance_id: str) -> str:
    """Where an instance is to who asks, by all ways to ask for it."""
    found = await one.get(f"/eureka/apps/{app}/{quote(instance_id)}")
    at: str = found["instance"]["ipAddr"]
    by_id = await one.get(f"/eureka/instances/{quote(instance_id)}")
    assert by_id == found
    several = (await one.get(f"/eureka/apps/{app}"))["application"]["instance"]
    assert [each["ipAddr"] for each in several] == [at]
    changes = (await one.get("/eureka/apps/delta"))["applications"]
    assert changes["apps__hashcode"] == "UP_1_"
    told = [
        each for each in changes["application"][0]["instance"] if each["actionType"] != "DELETED"
    ]
    assert {each["ipAddr"] for each in told} == {at}
    return at


async def delta(one: Client) -> tuple[str, list[tuple[str, str]]]:
    """Hash code, and what has become of which instance."""
    found = (await one.get("/eureka/apps/delta"))["applications"]
    return found["apps__hashcode"], [
        (each["actionType"], each["instanceId"])
        for app in found["application"]
        for each in app["instance"]
    ]


async def test_a_registration_becomes_a_service(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        assert await one.register() == 204
        (service,) = lab.services.values()
        assert (service.name, service.address, service.port) == ("orders", "192.0.2.8", 8080)
        assert service.meta == {"zone": "a", "management.port": "8080"}
        assert service.status == "passing"
        assert service.id == service_id("ORDERS", ID, "host-1")
        (lease,) = service.checks
        assert lease.spec is not None
        assert (lease.kind, lease.spec.ttl_s) == ("ttl", 90.0)
        assert lease.spec.deregister_after_s == DEREGISTER_AFTER_S
        found = (await one.get(PATH))["instance"]
        assert found["instanceId"] == ID
        assert found["port"] == {"$": 8080, "@enabled": "true"}
        assert found["leaseInfo"]["registrationTimestamp"] == 1_800_000_000_000


@pytest.mark.parametrize("base", ["/eureka", "/eureka/v2"])
async def test_all_paths_with_and_without_a_slash(tmp_path: Path, base: str) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        answer = await one.call(
            "POST", f"{base}/apps/orders/", json={"instance": instance_object()}
        )
        assert answer.status == 204
        for path in (
            *("apps", "apps/delta", "apps/ORDERS", "apps/orders", f"apps/orders/{ID}"),
            *(f"instances/{ID}", "vips/orders", "vips/ORDERS", "svips/orders-secure"),
            *("status", "serverinfo", "lastn", ""),
        ):
            for slash in ("", "/"):
                answer = await one.call("GET", f"{base}/{path}{slash}")
                assert answer.status == 200, path
        for path in ("apps/none", "apps/orders/none", "instances/none", "vips/none", "svips/none"):
            answer = await one.call("GET", f"{base}/{path}")
            assert (answer.status, answer.body) == (404, b"")
        assert (await one.call("GET", f"{base}/apps/a/b/c/d")).status == 404
        assert (await one.call("GET", "/other")).status == 404
        answer = await one.call("POST", f"{base}/apps", json={})
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")


async def test_a_page_in_a_browser_changes_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        body = {"instance": instance_object()}
        answer = await one.call(
            "POST", "/eureka/apps/ORDERS", json=body, Origin="http://evil.example"
        )
        assert answer.status == 403
        assert not lab.services


async def test_ids_with_any_character(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        odd = "a/b c?d#e%f:ä;&"
        path = f"/eureka/apps/ORDERS/{quote(odd, safe='')}"
        assert await one.register(instanceId=odd) == 204
        assert (await one.get(path))["instance"]["instanceId"] == odd
        assert (await one.call("PUT", f"{path}?status=UP")).status == 200
        assert (await one.call("PUT", f"{path}/status?value=DOWN")).status == 200
        assert (await one.call("DELETE", path)).status == 200
        assert not lab.services


@pytest.mark.parametrize(
    "path",
    [
        *("/eureka//apps", "/eureka/apps//", "/eureka/v2/v2/apps", "/eureka/vx/apps", "//"),
        *("/eureka/apps/%ff", "/eureka/apps/%", "/eureka/apps/%2F", "/eureka/apps/../../x"),
        *("/eureka/apps/a/b/status/c", "/eureka/apps/*/*", "/eureka/*", "/eureka/apps?a=%ff&=&&"),
        *("/eureka/apps/a%00b", "/eureka/apps/a%0d%0ab", "/eureka/" + "a/" * 500, "/lastn/x"),
        *(
            "/eureka/peerreplication/batch",
            "/eureka/vips/",
            "/eureka/vips/%2a",
            "/eureka/instances",
        ),
    ],
)
async def test_odd_paths(tmp_path: Path, path: str) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
            answer = await one.call(method, path, data=b"{}" if method == "POST" else None)
            assert answer.status < 500
        assert not lab.services


async def test_the_form_of_answers(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        await one.register()
        for number in range(20):
            lab.register("shop", f"shop-{number}")
        plain = await one.call("GET", "/eureka/apps")
        assert plain.headers["Content-Type"] == "application/xml"
        root = ElementTree.fromstring(plain.body)
        assert root.findtext("apps__hashcode") == "UP_21_"
        assert root.findtext("versions__delta") == "1"
        assert len(root.findall("application/instance")) == 21
        anything = await one.call("GET", "/eureka/apps", Accept="*/*")
        assert anything.headers["Content-Type"] == "application/xml"
        json = await one.call("GET", "/eureka/apps", Accept="application/json, application/*+json")
        assert json.headers["Content-Type"] == "application/json"
        assert "Content-Encoding" not in json.headers
        packed = await one.call(
            "GET", "/eureka/apps", Accept="application/json", Accept_Encoding="gzip"
        )
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == json.body
        reduced = await one.call(
            "GET", "/eureka/apps", Accept="application/json", X_Eureka_Accept="compact"
        )
        assert len(reduced.body) < len(json.body)
        assert b"leaseInfo" not in reduced.body
        head = await one.call("HEAD", "/eureka/apps")
        assert (head.status, head.body) == (200, b"")


async def test_xml_and_packed_bodies_are_taken(tmp_path: Path) -> None:
    xml = (
        b"<instance><instanceId>i</instanceId><hostName>h</hostName><app>A</app>"
        b"<ipAddr>192.0.2.9</ipAddr><status>UP</status><port enabled='true'>1</port>"
        b"<dataCenterInfo class='x'><name>MyOwn</name></dataCenterInfo></instance>"
    )
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        path = "/eureka/apps/A"
        answer = await one.call("POST", path, data=xml, Content_Type="application/xml")
        assert answer.status == 204
        answer = await one.call(
            "POST", path, data=gzip.compress(xml), Content_Type="text/xml", Content_Encoding="gzip"
        )
        assert answer.status == 204
        assert await statuses(one) == {"i": "UP"}
        for data, status in (
            (gzip.compress(b" " * 10_000_000), 413),
            (gzip.compress(xml)[:-20], 400),
            (xml, 400),
        ):
            answer = await one.call(
                "POST", path, data=data, Content_Type="text/xml", Content_Encoding="gzip"
            )
            assert answer.status == status
        answer = await one.call("POST", path, data=b"x" * 200_000)
        assert answer.status == 413


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"hostName": ""}, b"Missing hostname"),
        ({"dataCenterInfo": None}, b"Missing dataCenterInfo"),
        ({"ipAddr": "web-1"}, b"no IP address"),
        ({"metadata": {"a": "x" * 4000, **{f"k{n}": "y" * 3000 for n in range(5)}}}, b"16384"),
        ({"port": "x"}, b"no whole number"),
    ],
)
async def test_what_cannot_be_registered(tmp_path: Path, more: dict[str, Any], text: bytes) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        answer = await one.call(
            "POST", "/eureka/apps/ORDERS", json={"instance": instance_object(**more)}
        )
        assert answer.status == 400
        assert text in answer.body
        assert not lab.services


async def test_a_heartbeat_renews_what_is_known(tmp_path: Path) -> None:
    clock = Clock()
    async with cluster(tmp_path, clock=clock) as lab, client(lab.hosts[0]) as one:
        assert (await one.call("PUT", PATH)).status == 404
        await one.register()
        # It is well from the first moment on, and nobody has to be told twice.
        assert lab.hosts[0].calls == [f"register {service_id('ORDERS', ID, 'host-1')}"]
        clock.now_s += 30
        lab.hosts[0].calls.clear()
        answer = await one.call("PUT", f"{PATH}?status=UP&lastDirtyTimestamp=1000")
        assert (answer.status, answer.body) == (200, b"")
        assert lab.hosts[0].calls == [f"report {service_id('ORDERS', ID, 'host-1')}"]
        lease = (await one.get(PATH))["instance"]["leaseInfo"]
        assert lease["lastRenewalTimestamp"] == lease["registrationTimestamp"] + 30_000
        # A stamp that is newer than what is known: it has changed, and is to register again.
        assert (await one.call("PUT", f"{PATH}?lastDirtyTimestamp=1001")).status == 404
        assert (await one.call("PUT", f"{PATH}?lastDirtyTimestamp=999")).status == 200
        assert (await one.call("PUT", f"{PATH}?lastDirtyTimestamp=null")).status == 200


async def test_a_lease_that_runs_out_hides_the_instance(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        await one.register()
        ident = service_id("ORDERS", ID, "host-1")
        lab.hosts[0].expire(ident)
        assert await statuses(one) == {}
        assert (await one.call("GET", PATH)).status == 404
        assert await delta(one) == ("", [("DELETED", ID)])
        assert (await one.call("PUT", PATH)).status == 200  # it lives after all
        assert await statuses(one) == {ID: "UP"}
        assert await delta(one) == ("UP_1_", [("ADDED", ID)])
        lab.drop(ident)
        assert (await one.call("PUT", PATH)).status == 404


async def test_cancelling(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        assert (await one.call("DELETE", PATH)).status == 404
        await one.register()
        assert (await one.call("DELETE", PATH)).status == 200
        assert not lab.services
        assert (await one.call("DELETE", PATH)).status == 404
        assert await delta(one) == ("", [("DELETED", ID)])


async def test_a_status_that_is_not_up_keeps_everybody_away(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        ident = service_id("ORDERS", ID, "host-1")
        await one.register(status="STARTING")
        assert lab.services[ident].status == "critical"
        assert await statuses(one) == {ID: "STARTING"}
        assert (await one.call("PUT", f"{PATH}?status=STARTING")).status == 200
        await one.register(status="UP", lastDirtyTimestamp="1001")
        assert lab.services[ident].status == "passing"
        assert await statuses(one) == {ID: "UP"}
        await one.register(status="DOWN", lastDirtyTimestamp="1002")
        assert lab.services[ident].status == "critical"
        assert await statuses(one) == {ID: "DOWN"}


async def test_of_two_versions_the_newer_stays(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        await one.register(lastDirtyTimestamp="1002", metadata={"v": "2"})
        await one.register(lastDirtyTimestamp="1001", metadata={"v": "1"})
        found = (await one.get(PATH))["instance"]
        assert found["metadata"] == {"v": "2"}
        # Not when its lease had run out.
        lab.hosts[0].expire(service_id("ORDERS", ID, "host-1"))
        await one.register(lastDirtyTimestamp="1001", metadata={"v": "1"})
        assert (await one.get(PATH))["instance"]["metadata"] == {"v": "1"}


async def test_a_status_that_somebody_sets(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        path = f"{PATH}/status"
        assert (await one.call("PUT", f"{path}?value=DOWN")).status == 404
        assert (await one.call("DELETE", path)).status == 404
        await one.register()
        assert (await one.call("PUT", path)).status == 400
        assert (await one.call("PUT", f"{path}?value=AWAY")).status == 400
        assert (await one.call("PUT", f"{path}?value=OUT_OF_SERVICE")).status == 200
        (service,) = lab.services.values()
        assert service.status == "critical"
        await one.register(lastDirtyTimestamp="1001")  # it lasts
        found = (await one.get(PATH))["instance"]
        assert (found["status"], found["overriddenStatus"]) == ("OUT_OF_SERVICE",) * 2
        assert (await one.call("DELETE", path)).status == 200
        found = (await one.get(PATH))["instance"]
        assert (found["status"], found["overriddenStatus"]) == ("UP", "UNKNOWN")
        (service,) = lab.services.values()
        assert service.status == "passing"
        assert (await one.call("DELETE", f"{path}?value=DOWN")).status == 200
        assert await statuses(one) == {ID: "DOWN"}


async def test_a_status_of_nothing_asks_for_another_registration(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        await one.register(status="UNKNOWN")
        assert (await one.call("PUT", PATH)).status == 404


async def test_maintenance_that_others_ask_for(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        await one.register()
        ident = service_id("ORDERS", ID, "host-1")
        lab.hosts[0].maintain(ident, Maintenance(enable=True, reason="new disk"))
        assert await statuses(one) == {ID: "OUT_OF_SERVICE"}
        await one.register(lastDirtyTimestamp="1001", status="DOWN")
        await one.register(lastDirtyTimestamp="1002", status="UP")
        assert (await one.call("PUT", PATH)).status == 200
        assert await statuses(one) == {ID: "OUT_OF_SERVICE"}
        lab.hosts[0].maintain(ident, Maintenance(enable=False))
        assert await statuses(one) == {ID: "UP"}


async def test_maintenance_goes_along_to_another_host(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as lab:
        first, second = lab.hosts
        async with client(first) as one, client(second) as two:
            await one.register()
            ident = service_id("ORDERS", ID, "host-1")
            first.maintain(ident, Maintenance(enable=True, reason="new disk"))
            assert (await two.call("PUT", PATH)).status == 200
            await until(lambda: not first.own())
            (service,) = second.own()
            assert service.status == "critical"
            assert await statuses(one) == {ID: "OUT_OF_SERVICE"}
            second.maintain(service.id, Maintenance(enable=False))
            assert await statuses(one) == {ID: "UP"}


async def test_a_status_goes_along_to_another_host(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as lab:
        first, second = lab.hosts
        async with client(first) as one, client(second) as two:
            await one.register(status="STARTING")
            assert (await two.call("PUT", PATH)).status == 200
            await until(lambda: not first.own())
            (service,) = second.own()
            assert service.status == "critical"
            assert await statuses(one) == {ID: "STARTING"}
            await two.register(lastDirtyTimestamp="1001")
            assert second.own()[0].status == "passing"
            assert await statuses(one) == {ID: "UP"}


async def test_who_is_not_up_is_kept_out_by_each_heartbeat(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        await one.register(status="DOWN")
        (service,) = lab.services.values()
        lab.hosts[0].maintain(service.id, Maintenance(enable=False))
        assert await statuses(one) == {ID: "DOWN"}
        assert (await one.call("PUT", PATH)).status == 200
        assert lab.services[service.id].status == "critical"


async def test_metadata(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        assert (await one.call("PUT", f"{PATH}/metadata?a=1")).status == 404
        await one.register(metadata={"a": "0", "b": "2"})
        assert (await one.call("PUT", f"{PATH}/metadata?a=1&c=x%20y")).status == 200
        found = (await one.get(PATH))["instance"]
        assert found["metadata"] == {"a": "1", "b": "2", "c": "x y"}
        (service,) = lab.services.values()
        assert service.meta == found["metadata"]


async def test_what_others_have_registered(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        lab.register("shop", "shop-1", tags=("v1", "eu"), meta={"shard": "3"})
        lab.register("shop", "shop-2", address="fd00::7", status="critical")
        lab.register("_node", "_node-host-1")
        assert await statuses(one) == {"shop-1": "UP", "shop-2": "DOWN"}
        found = (await one.get("/eureka/apps/shop/shop-1"))["instance"]
        assert (found["app"], found["hostName"], found["vipAddress"]) == (
            "SHOP",
            "192.0.2.7",
            "shop",
        )
        assert found["metadata"] == {"shard": "3", "tags": "v1,eu"}
        assert found["homePageUrl"] == "http://192.0.2.7:80/"
        other = (await one.get("/eureka/apps/shop/shop-2"))["instance"]
        assert (other["hostName"], other["ipAddr"]) == ("[fd00::7]", "fd00::7")
        assert (await one.call("PUT", "/eureka/apps/SHOP/shop-1")).status == 404
        assert (await one.call("PUT", "/eureka/apps/SHOP/shop-1/metadata?a=1")).status == 404
        path = "/eureka/apps/SHOP/shop-1/status"
        assert (await one.call("PUT", f"{path}?value=OUT_OF_SERVICE")).status == 200
        assert (await statuses(one))["shop-1"] == "OUT_OF_SERVICE"
        assert (await one.call("DELETE", path)).status == 200
        assert (await statuses(one))["shop-1"] == "UP"
        assert (await one.call("DELETE", "/eureka/apps/SHOP/shop-1")).status == 200
        assert (await statuses(one)) == {"shop-2": "DOWN"}
        lab.register("shop", "shop-3", node="host-9")
        answer = await one.call("DELETE", "/eureka/apps/SHOP/shop-3")
        assert (answer.status, b"host-9" in answer.body) == (409, True)


async def test_delta(tmp_path: Path) -> None:
    clock = Clock()
    async with cluster(tmp_path, clock=clock) as lab, client(lab.hosts[0]) as one:
        await one.register()
        first = await one.get("/eureka/apps/delta")
        assert first == await one.get("/eureka/apps/delta")
        lab.register("shop", "shop-1")
        lab.register("shop", "shop-2")
        assert await delta(one) == (
            "UP_3_",
            [("ADDED", ID), ("ADDED", "shop-1"), ("ADDED", "shop-2")],
        )
        second = await one.get("/eureka/apps/delta")
        # With it clients that compare versions see that there is something new.
        versions = [each["applications"]["versions__delta"] for each in (first, second)]
        assert versions[0] != versions[1]
        lab.register("shop", "shop-1", status="critical")
        lab.drop("shop-2")
        code, changes = await delta(one)
        assert code == "DOWN_1_UP_1_"
        assert changes == [("ADDED", ID), ("MODIFIED", "shop-1"), ("DELETED", "shop-2")]
        clock.now_s += KEPT_S - 1
        lab.register("shop", "shop-4")
        clock.now_s += 2
        assert await delta(one) == ("DOWN_1_UP_2_", [("ADDED", "shop-4")])


async def test_what_clients_do_not_see_changes_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        check = Check(id="tcp", name="tcp", kind="tcp", status="passing", output="80 ms")
        lab.register("shop", "shop-1", checks=(check,))
        version = lab.hosts[0].view.version
        body = (await one.call("GET", "/eureka/apps")).body
        check = msgspec.structs.replace(check, output="81 ms")
        lab.register("shop", "shop-1", checks=(check,))
        assert lab.hosts[0].view.version == version
        assert (await one.call("GET", "/eureka/apps")).body == body


async def test_a_new_table_tells_what_has_changed_meanwhile(tmp_path: Path) -> None:
    clock = Clock()
    async with cluster(tmp_path, clock=clock) as lab, client(lab.hosts[0]) as one:
        host = lab.hosts[0]
        for number in (1, 2, 3):
            lab.register("shop", f"shop-{number}")
        clock.now_s += KEPT_S + 1
        assert await delta(one) == ("UP_3_", [])
        del lab.services["shop-1"]
        two = lab.services["shop-2"]
        lab.services["shop-2"] = msgspec.structs.replace(two, port=81)
        lab.services["shop-4"] = msgspec.structs.replace(two, id="shop-4")
        host.sync(ENDPOINT)
        code, changes = await delta(one)
        assert code == "UP_3_"
        assert sorted(changes) == [
            ("ADDED", "shop-4"),
            ("DELETED", "shop-1"),
            ("MODIFIED", "shop-2"),
        ]


async def test_nothing_is_read_before_the_daemon_was_heard(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        lab.hosts[0].view.ready = False
        assert (await one.call("GET", "/eureka/apps")).status == 503


async def test_a_daemon_that_refuses(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        host = lab.hosts[0]
        host.broken = True
        answer = await one.call("POST", "/eureka/apps/ORDERS", json={"instance": instance_object()})
        assert (answer.status, answer.body) == (503, b"the disk is full")
        host.broken = False
        await one.register()
        host.broken = True
        assert (await one.call("PUT", PATH)).status == 503
        # It has forgotten the instance, and the registry has not heard of that yet.
        host.broken = False
        del lab.services[service_id("ORDERS", ID, "host-1")]
        assert (await one.call("PUT", PATH)).status == 404


# Containers


async def test_a_container_registers_its_own_addresses_only(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as host:
        async with client(lab.hosts[0], CONTAINER) as one:
            assert await one.register() == 403
            assert await one.register(ipAddr=CONTAINER) == 204
            (service,) = lab.services.values()
            assert service.endpoint == "e1"  # so it goes with the container
            assert (await one.call("PUT", PATH)).status == 200
            # Nor does it take over what is another's.
            await host.register(instanceId="db", app="DB")
            other = "/eureka/apps/DB/db"
            assert await one.register(instanceId="db", app="DB", ipAddr=CONTAINER) == 403
            for method, path in (
                *(("PUT", ""), ("DELETE", ""), ("PUT", "/status?value=DOWN")),
                *(("DELETE", "/status"), ("PUT", "/metadata?a=1")),
            ):
                assert (await one.call(method, other + path)).status == 403
            lab.register("shop", "shop-1")
            shop = "/eureka/apps/SHOP/shop-1"
            assert (await one.call("DELETE", shop)).status == 403
            assert (await one.call("PUT", f"{shop}/status?value=DOWN")).status == 403
        async with client(lab.hosts[0], NEIGHBOUR) as one:
            assert await one.register(ipAddr=NEIGHBOUR) == 403
            assert (await one.call("DELETE", PATH)).status == 403


@pytest.mark.parametrize("network", ["", "blue"])
async def test_a_container_does_not_stand_for_what_others_registered_elsewhere(
    tmp_path: Path, network: str
) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0], CONTAINER) as one:
        lab.register("web", "web@host-1", network=network)
        squatted = {"app": "WEB", "instanceId": "web@host-1"}
        assert await one.register(**squatted, ipAddr=CONTAINER) == 403
        item = {"appName": "WEB", "id": "web@host-1", "action": "Register"}
        instance = instance_object(**squatted, ipAddr=CONTAINER)
        assert await batch(one, {**item, "instanceInfo": instance}) == [403]
        assert await address(one, "WEB", "web@host-1") == "192.0.2.7"
        async with client(lab.hosts[0]) as host:  # which may do all
            assert await host.register(**squatted, ipAddr=CONTAINER) == 204


async def test_what_a_container_does_not_see_it_does_not_outrank(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0], CONTAINER) as one:
        lab.register("web", "web@host-1", network="red")
        assert await one.register(app="WEB", instanceId="web@host-1", ipAddr=CONTAINER) == 204
        assert await address(one, "WEB", "web@host-1") == CONTAINER
        for source in (RED, "127.0.0.1"):
            async with client(lab.hosts[0], source) as other:
                assert await address(other, "WEB", "web@host-1") == "192.0.2.7"
        assert (await one.call("DELETE", "/eureka/apps/WEB/web@host-1")).status == 200
        assert set(lab.services) == {"web@host-1"}


async def test_containers_of_different_networks_do_not_lock_each_other_out(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        cluster(tmp_path, clock=clock) as lab,
        client(lab.hosts[0], RED) as red,
        client(lab.hosts[0], CONTAINER) as blue,
    ):
        assert await red.register(ipAddr=RED) == 204
        clock.now_s += 1  # it is the later one
        assert await blue.register(ipAddr=CONTAINER, metadata={"a": "b"}) == 204
        assert {each.network for each in lab.services.values()} == {"red", "blue"}
        for one, own in ((red, RED), (blue, CONTAINER)):
            assert (await one.call("PUT", PATH)).status == 200
            assert (await one.call("PUT", f"{PATH}/metadata?by={own}")).status == 200
            assert await address(one, "ORDERS", ID) == own
            assert await statuses(one) == {ID: "UP"}
        async with client(lab.hosts[0]) as host:
            assert await address(host, "ORDERS", ID) == RED, "the one that was first"
            assert await statuses(host) == {ID: "UP"}
            # The host's own is what all see, and no container may stand for it.
            assert await host.register() == 204
            for one in (host, red, blue):
                assert await address(one, "ORDERS", ID) == "192.0.2.8"
            assert await red.register(ipAddr=RED) == 403
            assert (await host.call("DELETE", PATH)).status == 200
        assert (await blue.call("PUT", f"{PATH}/status?value=OUT_OF_SERVICE")).status == 200
        assert await statuses(blue) == {ID: "OUT_OF_SERVICE"}
        assert await statuses(red) == {ID: "UP"}
        assert (await blue.call("DELETE", PATH)).status == 200
        assert [each.network for each in lab.services.values()] == ["red"]
        assert (await blue.call("DELETE", PATH)).status == 404


async def test_a_machine_without_netd_registers_what_is_at_its_own_address(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0], NEIGHBOUR) as one:
        assert await one.register(ipAddr=NEIGHBOUR) == 403
        settings = RegistrySettings(eureka_clients=("198.51.100.0/24", "127.0.1.0/24"))
        zone = ZoneEntry(zone="netd.internal", node="host-1", node_id="0" * 16, settings=settings)
        for reader in lab.hosts[0].eureka.readers:
            reader.change(None, Entry(revision=lab.revision, kind="zone", zone=zone))
        assert await one.register(ipAddr=NEIGHBOUR) == 204
        assert await one.register(ipAddr=f"::ffff:{NEIGHBOUR}") == 204
        for address in (CONTAINER, "127.0.1.4", "127.0.0.1", "198.51.100.1"):
            assert await one.register(ipAddr=address) == 403
        async with client(lab.hosts[0], CONTAINER) as other:
            assert await other.register(ipAddr=NEIGHBOUR) == 403
            assert (await other.call("DELETE", PATH)).status == 403
        assert (await one.call("PUT", PATH)).status == 200
        assert (await one.call("DELETE", PATH)).status == 200
        assert not lab.services


async def test_a_container_sees_its_networks_only(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0], CONTAINER) as one:
        lab.register("shop", "open")
        lab.register("shop", "blue", network="blue")
        lab.register("shop", "red", network="red")
        lab.register("db", "red-db", network="red")
        assert await statuses(one) == {"open": "UP", "blue": "UP"}
        assert await delta(one) == ("UP_2_", [("ADDED", "open"), ("ADDED", "blue")])
        found = await one.get("/eureka/apps/shop")
        assert len(found["application"]["instance"]) == 2
        for path in ("apps/db", "apps/shop/red", "instances/red", "vips/db"):
            assert (await one.call("GET", f"/eureka/{path}")).status == 404
        assert (await one.call("DELETE", "/eureka/apps/SHOP/red")).status == 404
        page = await one.call("GET", "/eureka/")
        assert (b"blue" in page.body, b"red-db" in page.body) == (True, False)
        async with client(lab.hosts[0]) as host:
            assert len(await statuses(host)) == 4


async def test_the_page_has_no_markup_of_others(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        await one.register(instanceId="<script>alert(1)</script>", app="<B>")
        lab.register("shop", "shop-1")
        for path in ("/", "/lastn", "/eureka", "/eureka/lastn"):
            page = await one.call("GET", path)
            assert page.status == 200
            assert b"shop-1" in page.body
            assert b"<script>" not in page.body
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert (await one.call("PUT", "/")).status == 405


# Several hosts


async def test_a_client_goes_to_another_host(tmp_path: Path) -> None:
    """Its lease goes with it, and nobody sees it twice, or not at all."""
    async with cluster(tmp_path, 3) as lab:
        first, second, third = lab.hosts
        async with client(first) as one, client(second) as two, client(third) as three:
            await one.register()
            assert await statuses(three) == {ID: "UP"}
            assert (await two.call("PUT", f"{PATH}?lastDirtyTimestamp=1000")).status == 200
            await until(lambda: not first.own())
            assert len(second.own()) == 1
            for each in (one, two, three):
                assert await statuses(each) == {ID: "UP"}
            counts = {count.name: count.value for count in first.eureka.counts()}
            assert counts["eureka_instances"] == counts["eureka_changes"] == 1
            assert counts["eureka_handovers_total"] == 1
            assert counts["eureka_kept_bytes"] > 0
            assert await delta(three) == ("UP_1_", [("ADDED", ID)])
            # And back again.
            assert (await one.call("PUT", PATH)).status == 200
            await until(lambda: not second.own())
            assert await statuses(three) == {ID: "UP"}


async def test_a_client_registers_with_another_host(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as lab:
        first, second = lab.hosts
        async with client(first) as one, client(second) as two:
            await one.register()
            await two.register(lastDirtyTimestamp="1001", metadata={"v": "2"})
            await until(lambda: not first.own())
            assert (await one.get(PATH))["instance"]["metadata"] == {"v": "2"}


async def test_what_one_host_has_is_cancelled_by_another(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as lab:
        first, second = lab.hosts
        async with client(first) as one, client(second) as two:
            await one.register()
            first.hold = asyncio.Event()
            assert (await two.call("DELETE", PATH)).status == 200
            for each in (one, two):
                assert await statuses(each) == {}
            assert (await two.call("PUT", PATH)).status == 404
            assert len(lab.services) == 2
            first.hold.set()
            await until(lambda: not lab.services)
            assert (await one.call("DELETE", PATH)).status == 404


async def test_who_registers_again_while_it_is_cancelled_is_there(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as lab:
        first, second = lab.hosts
        async with client(first) as one, client(second) as two:
            await one.register()
            first.hold = asyncio.Event()
            assert (await two.call("DELETE", PATH)).status == 200
            assert await two.register() == 204
            first.hold.set()
            await until(lambda: not first.own())
            assert await statuses(one) == await statuses(two) == {ID: "UP"}


async def test_a_host_that_comes_back_gives_up_what_another_has_taken_over(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as lab:
        first, second = lab.hosts
        async with client(first) as one, client(second) as two:
            await one.register()
            (kept,) = lab.services.values()
            lab.drop(kept.id)  # the host is dead
            assert (await two.call("PUT", PATH)).status == 404
            await two.register(lastDirtyTimestamp="1001")
            # It has it still, with an older stamp.
            second_stamp = second.own()[0].extra["eureka"]["stamp"]
            kept.extra["eureka"]["stamp"] = second_stamp - 1
            lab.services[kept.id] = kept
            first.sync(ENDPOINT)
            await until(lambda: not first.own())
            assert await statuses(one) == {ID: "UP"}


async def test_a_host_removes_nothing_of_its_own_when_another_has_an_older_one(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, 2) as lab:
        first, second = lab.hosts
        async with client(first) as one:
            await one.register()
            (mine,) = lab.services.values()
            extra = {"eureka": {**mine.extra["eureka"], "stamp": 1}}
            lab.put(msgspec.structs.replace(mine, id="old", node="host-2", extra=extra))
            await until(lambda: not second.own())
            assert [each.id for each in first.own()] == [mine.id]


# Batches of peers


async def batch(one: Client, *items: dict[str, Any]) -> list[Any]:
    answer = await one.call(
        "POST",
        "/eureka/peerreplication/batch/",
        json={"replicationList": list(items)},
        x_netflix_discovery_replication="true",
    )
    assert answer.status == 200, answer
    found = msgspec.json.decode(answer.body)["responseList"]
    return [each["statusCode"] for each in found]


async def test_batches(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        item = {"appName": "ORDERS", "id": ID, "lastDirtyTimestamp": 1000, "status": "UP"}
        register = {**item, "action": "Register", "instanceInfo": instance_object()}
        heartbeat = {**item, "action": "Heartbeat"}
        assert await batch(one, heartbeat, register, heartbeat) == [404, 200, 200]
        assert await batch(one, {**heartbeat, "overriddenStatus": "OUT_OF_SERVICE"}) == [200]
        assert await statuses(one) == {ID: "OUT_OF_SERVICE"}
        assert await batch(one, {**item, "action": "DeleteStatusOverride", "status": None}) == [200]
        assert await statuses(one) == {ID: "UP"}
        assert await batch(one, {**item, "action": "StatusUpdate", "status": "DOWN"}) == [200]
        assert await statuses(one) == {ID: "DOWN"}
        older, newer = ({**heartbeat, "lastDirtyTimestamp": at} for at in (999, "1001"))
        assert await batch(one, older, newer) == [409, 404]
        other = {**register, "appName": "OTHER"}
        assert await batch(one, other, {**item, "action": "Dance"}) == [400, 400]
        assert await batch(one, {**item, "action": "Cancel"}) == [200]
        assert await statuses(one) == {}
        lists: tuple[Any, ...] = (None, 3, [3], [{}], [{}] * 501)
        for found in lists:
            body = {"replicationList": found}
            answer = await one.call("POST", "/eureka/peerreplication/batch", json=body)
            assert answer.status == 400


async def test_a_batch_counts_as_as_many_calls_as_it_has_items(tmp_path: Path) -> None:
    item = {"action": "Heartbeat", "appName": "X", "id": "x"}
    async with cluster(tmp_path) as lab:
        (host,) = lab.hosts
        host.eureka.server._calls_per_s = 10.0
        host.sync(ENDPOINT)
        async with client(host) as one, client(host, CONTAINER) as inside:
            assert await batch(inside, *[item] * 400) == [404] * 400
            assert (await inside.call("GET", "/eureka/apps")).status == 429
            assert await batch(one, *[item] * 400) == [404] * 400
            assert (await one.call("GET", "/eureka/apps")).status == 200


async def test_a_batch_from_a_container_has_no_more_rights(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0], CONTAINER) as one:
        item = {"appName": "ORDERS", "id": ID, "action": "Register"}
        assert await batch(one, {**item, "instanceInfo": instance_object()}) == [403]
        assert not lab.services


async def test_an_older_copy_is_told_of_the_newer_one(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        await one.register()
        path = f"{PATH}?lastDirtyTimestamp=1"
        answer = await one.call(
            "PUT", path, x_netflix_discovery_replication="true", Accept="application/json"
        )
        assert answer.status == 409
        assert msgspec.json.decode(answer.body)["instance"]["instanceId"] == ID


# What the daemons of others may say


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"instance": 3},
        {"instance": instance_object(), "stamp": "x", "ownStatus": "UP"},
        {"instance": instance_object(), "stamp": 1, "ownStatus": ["UP"]},
        {"instance": instance_object(), "stamp": 1, "ownStatus": "UP"},
    ],
)
async def test_registrations_that_no_registry_would_write(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        lab.register("shop", "shop-1", extra={"eureka": extra}, created_at="soon")
        lab.register("shop", "shop-2")
        assert (await statuses(one))["shop-2"] == "UP"


async def test_many_instances_are_written_in_portions(tmp_path: Path) -> None:
    async with cluster(tmp_path) as lab, client(lab.hosts[0]) as one:
        for number in range(1_000):
            lab.register(f"app-{number % 7}", f"i-{number}")
        bodies = await asyncio.gather(
            *(one.call("GET", "/eureka/apps", Accept_Encoding="gzip") for _ in range(5))
        )
        assert len({each.body for each in bodies}) == 1
        root = ElementTree.fromstring(gzip.decompress(bodies[0].body))
        assert len(root.findall("application")) == 7
        assert len(root.findall("application/instance")) == 1_000


async def test_a_daemon_that_does_not_let_go(tmp_path: Path, caplog: Any) -> None:
    """What another host has taken over stays until the daemon is asked again."""
    async with cluster(tmp_path, 2) as lab:
        first, second = lab.hosts
        async with client(first) as one, client(second) as two:
            await one.register()
            first.broken = True
            assert (await two.call("PUT", PATH)).status == 200
            await until(lambda: "cannot be removed" in caplog.text)
            assert len(first.own()) == 1
            assert await statuses(one) == await statuses(two) == {ID: "UP"}
            first.broken = False
            first.sync(ENDPOINT)
            await until(lambda: not first.own())


def test_names_of_services() -> None:
    assert service_name("ORDERS") == "orders"
    assert service_name("My.App_1") == "my-app_1"
    assert service_name("-X-") == "x"
    long = service_name("A" * 100)
    assert len(long) == 63
    assert long != service_name("A" * 101)
    assert service_name("ÄÖ").startswith("app-")
    for name in ("_NODE", "CONSUL"):  # which stand for hosts
        assert service_name(name).startswith(f"{name.lower()}-")


def test_ids_of_services() -> None:
    assert service_id("A", "h:a:1", "n1") != service_id("A", "h:a:1", "n2")
    assert service_id("A", "x/y z", "n1").startswith("x-y-z-")
    assert len(service_id("A", "x" * 500, "n1")) <= 128
    assert len({service_id("A", "h:a:1", "n1", network) for network in ("", "red", "blue")}) == 3


def test_changes_are_bounded() -> None:
    changes = Changes(Clock())
    seen = Seen(Kept(id="a", name="a", node="n", address="192.0.2.1"))
    for number in range(CHANGES_MAX + 5):
        changes.note(("A", str(number), ""), "ADDED", seen)
    assert (len(changes), changes.forgotten) == (CHANGES_MAX, 5)


def test_an_instance_of_another_service_is_as_it_says() -> None:
    seen = Seen(
        Kept(id="a", name="a", node="n", address="192.0.2.1", created_at="2026-01-01T00:00:01Z")
    )
    assert seen.instance is not None
    found = to_object(seen.instance)
    assert found["lastUpdatedTimestamp"] == "1767225601000"
    assert found["port"] == {"$": 0, "@enabled": "false"}
