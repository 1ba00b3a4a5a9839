"""Instances of endpoints with two addresses: found, balanced and shown at both."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from netd.engine.services.records import encode, read
from netd.model.service import (
    CheckResult,
    CheckSpec,
    Service,
    ServiceSpec,
    VirtualPort,
    VirtualSpec,
)
from tests.unit.consul_lab import WEB_ADDRESS, Lab, consul
from tests.unit.engine_fixture import Host
from tests.unit.naming_lab import World, service
from tests.unit.registry_lab import free_port
from tests.unit.test_virtual_engine import HTTP, expose, hosts, settled, targets

__all__ = ["hosts"]  # the fixture

SUBNETS = ("10.20.0.0/24", "fd20::/64")
BOTH = {"10.20.0.2", "fd20::2"}


def names(host: Host, name: str = "web", source: str | None = None) -> set[str]:
    found = set()
    for kind in ("A", "AAAA"):
        answer = host.engine.resolve(f"{name}.service.netd.internal", kind, source)
        found |= {record.data for record in answer.records}
    return found


# Where an instance is


async def test_a_label_makes_an_instance_at_both_addresses_of_its_endpoint(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    endpoint = await host.attach("blue", "c1", labels={"netd.service": "web:80"})
    (made,) = host.engine.services.all()
    assert made.addresses == ("10.20.0.2", "fd20::2")
    assert names(host) == BOTH
    assert names(host, source="10.20.0.9") == BOTH
    await host.restart()
    assert host.engine.services.all() == (made,)
    await host.engine.detach(endpoint.id)
    assert names(host) == set()


@pytest.mark.parametrize(
    ("address", "addresses"),
    [
        ("", ("10.20.0.2", "fd20::2")),
        ("10.20.0.2", ("10.20.0.2", "fd20::2")),
        ("fd20::2", ("fd20::2", "10.20.0.2")),
        ("10.20.0.77", ("10.20.0.77",)),  # it is not the endpoint's
    ],
)
async def test_an_instance_is_at_what_its_endpoint_has(
    host: Host, address: str, addresses: tuple[str, ...]
) -> None:
    await host.network("blue", subnets=SUBNETS)
    endpoint = await host.attach("blue", "c1")
    asked = ServiceSpec(name="web", address=address, endpoint=endpoint.id)
    made, _ = await host.engine.services.put("web-1", asked)
    assert made.addresses == addresses


async def test_an_instance_of_no_endpoint_is_at_one_address(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    await host.attach("blue", "c1")
    made, _ = await host.engine.services.put("web-1", ServiceSpec(name="web", address="10.20.0.2"))
    assert made.addresses == ("10.20.0.2",)
    made, _ = await host.engine.services.put("web-2", ServiceSpec(name="web"))
    assert made.addresses == ("192.0.2.10",)


async def test_what_was_stored_before_there_were_two_has_them_after_a_restart(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    endpoint = await host.attach("blue", "c1")
    await host.engine.services.put("web-1", ServiceSpec(name="web", endpoint=endpoint.id))
    record = host.engine.services._own.records["web-1"]
    old = msgspec.structs.replace(record.service, other_addresses=())
    host.engine.services._own.records["web-1"] = msgspec.structs.replace(record, service=old)
    host.engine.services._keeper.keep("web-1")
    await host.restart()
    assert host.engine.services.find("web-1").addresses == ("10.20.0.2", "fd20::2")


def test_others_are_told_and_believed_no_more_than_addresses() -> None:
    made = service("web", "10.20.0.2", other_addresses=("FD20::2",))
    assert read("web", encode(made)) == msgspec.structs.replace(
        made, node="", other_addresses=("fd20::2",)
    )
    for bad in ("nonsense", "ff02::1", "fe80::1%eth0"):
        assert read("web", encode(service("web", "10.20.0.2", other_addresses=(bad,)))) is None
    many = service("web", "10.20.0.2", other_addresses=tuple(f"fd20::{n}" for n in range(1, 99)))
    found = read("web", encode(many))
    assert found is not None
    assert len(found.other_addresses) == 4


# Names


@pytest.fixture
def world() -> World:
    made = World()
    made.network("blue", *SUBNETS)
    made.attach("blue", "a", "10.20.0.2", "fd20::2")
    made.register(dual())
    return made


def dual() -> Service:
    return service("web", "10.20.0.2", 8080, network="blue", other_addresses=("fd20::2",))


@pytest.mark.parametrize("name", ["web", "web.service.netd.internal", "web.service.consul"])
def test_both_addresses_have_the_name(world: World, name: str) -> None:
    assert world.data(name, "A", "10.20.0.9") == ["10.20.0.2"]
    assert world.data(name, "AAAA", "10.20.0.9") == ["fd20::2"]
    world.put("service", "web", None)
    assert world.rcode(name, "AAAA") == "NXDOMAIN"


def test_an_instance_is_one_place_with_two_addresses(world: World) -> None:
    answer = world.answer("web.service.netd.internal", "SRV")
    assert [record.data for record in answer.records] == ["1 1 8080 a.blue.netd.internal."]
    assert {record.data for record in answer.additional} == BOTH
    for each in answer.additional:
        assert world.data(each.name, each.type) == [each.data]


def test_where_a_target_is_an_address_it_is_the_first(world: World) -> None:
    answer = world.answer("web.service.consul", "SRV")
    assert [record.data for record in answer.records] == ["1 1 8080 0a140002.addr.dc1.consul."]
    assert [record.data for record in answer.additional] == ["10.20.0.2"]


def test_the_name_of_each_address_is_the_service_s_where_there_is_no_other(world: World) -> None:
    world.put("endpoint", "a@blue", None)
    assert world.data("fd20::2", "PTR") == []  # an address is no name here
    name = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.d.f.ip6.arpa"
    assert world.data(name, "PTR") == ["web.service.netd.internal."]


# Virtual addresses


async def test_virtual_addresses_of_both_families_lead_to_an_instance(hosts: list[Host]) -> None:
    one, two, _ = hosts
    await one.network("blue", subnets=SUBNETS)
    await expose(one, "web", VirtualSpec(ports=(VirtualPort(port=80),), drain_s=0.0))
    endpoint = await one.attach("blue", "c1", labels={"netd.service": "web:8080"})
    await settled(*hosts)
    assert targets(one) == {"10.20.0.2:8080", "fd20::2:8080"}
    assert one.engine.virtuals.find("web").instances == 1
    assert targets(two) == set()  # a bridge network of another host
    await one.engine.services.put(
        "web-2",
        ServiceSpec(name="web", port=81, endpoint=endpoint.id, checks=(CheckSpec(kind="told"),)),
    )
    one.engine.services.report("web-2", "told", CheckResult(status="passing"))
    await settled(*hosts)
    assert targets(one) == {f"{each}:{port}" for each in BOTH for port in (8080, 81)}
    assert one.engine.virtuals.find("web").instances == 2
    assert await one.engine.plan() == ()
    await one.engine.detach(endpoint.id)
    await settled(*hosts)
    assert targets(one) == set()


async def test_both_are_kept_until_an_instance_is_heard_of(hosts: list[Host]) -> None:
    one = hosts[0]
    await one.network("blue", subnets=SUBNETS)
    await expose(one, "web", HTTP)
    await one.attach("blue", "c1", labels={"netd.service": "web:8080"})
    await settled(one)
    assert targets(one) == {"10.20.0.2:8080", "fd20::2:8080"}
    await one.restart()
    await settled(one)
    assert targets(one) == {"10.20.0.2:8080", "fd20::2:8080"}
    (service_id,) = (each.id for each in one.engine.services.all())
    await one.engine.detach(one.engine.services.find(service_id).endpoint)
    await settled(one)
    assert targets(one) == set()


# Consul


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with consul(tmp_path, free_port()) as running:
        yield running


async def test_consul_s_clients_see_both(lab: Lab) -> None:
    lab.daemon.service("a-1", "a", address=WEB_ADDRESS, port=80, other_addresses=("fd20::7",))
    tagged = {
        "lan_ipv4": {"Address": WEB_ADDRESS, "Port": 80},
        "lan_ipv6": {"Address": "fd20::7", "Port": 80},
    }
    (row,) = await lab.get("/v1/health/service/a")
    assert row["Service"]["TaggedAddresses"] == tagged
    assert row["Service"]["Address"] == WEB_ADDRESS
    (row,) = await lab.get("/v1/catalog/service/a")
    assert row["ServiceTaggedAddresses"] == tagged
    assert (await lab.get("/v1/agent/services"))["a-1"]["TaggedAddresses"] == tagged
    own = {"lan_ipv6": {"Address": "fd20::8", "Port": 1}, "wan": {"Address": "x", "Port": 2}}
    lab.daemon.service(
        "a-1",
        "a",
        address=WEB_ADDRESS,
        port=80,
        other_addresses=("fd20::7",),
        extra={"consul": {"TaggedAddresses": own}},
    )
    (row,) = await lab.get("/v1/health/service/a")
    assert row["Service"]["TaggedAddresses"] == tagged | own
