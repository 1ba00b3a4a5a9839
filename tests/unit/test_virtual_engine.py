"""Virtual addresses on hosts with kernels in memory: agreed upon, balanced, drained, kept."""

import asyncio
import errno
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from netd.engine.virtuals import balancing, catalogue, virtuals
from netd.engine.virtuals.definitions import CLAIMS
from netd.model.endpoint import PortMapping, Sandbox
from netd.model.errors import Exhausted, Invalid, NotFound, Unavailable
from netd.model.names import bridge_name
from netd.model.service import (
    CheckResult,
    CheckSpec,
    Maintenance,
    ServiceSpec,
    Virtual,
    VirtualPort,
    VirtualSpec,
    Weights,
)
from netd.plan.objects import SetElement
from netd.plan.virtual import Flows, wished
from netd.plan.virtual_rules import client_number
from netd.plan.virtual_views import LINK
from tests.unit.engine_fixture import DISK_FULL, FACTS, Host
from tests.unit.memory_cluster import Mesh

HTTP = VirtualSpec(ports=(VirtualPort(port=80),), drain_s=0.0)
DNS = VirtualSpec(ports=(VirtualPort(port=53, protocol="udp", target_port=5353),))
UNHEARD = 1e9  # seconds: the grace does not end within a test


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[list[Host]]:
    """Three hosts in one cluster."""
    mesh = Mesh()
    made = []
    for number in (1, 2, 3):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        host = Host(folder, mesh, node=f"node-{number}", node_id=str(number) * 32)
        await host.start()
        host.cluster.bound = True
        made.append(host)
    for host in made[1:]:
        await host.engine.cluster.join([made[0].cluster.address], None)
    yield made
    for host in made:
        await host.stop()


async def expose(host: Host, service: str = "web", spec: VirtualSpec = HTTP) -> Virtual:
    virtual, _ = await host.engine.virtuals.put(service, spec)
    return virtual


async def register(host: Host, ident: str, address: str, **more: Any) -> None:
    asked = {"name": "web", "port": 8080, "address": address, **more}
    await host.engine.services.put(ident, ServiceSpec(**asked))
    await settled(host)


async def deregister(host: Host, ident: str) -> None:
    await host.engine.services.delete(ident)
    await settled(host)


async def settled(*hosts: Host) -> None:
    """What is told of has been applied everywhere."""
    for host in hosts:
        await asyncio.sleep(0)
        await host.engine.virtuals.idle()
        await host.quiet()


def targets(host: Host, service: str = "web") -> set[str]:
    """Where the kernel leads what is sent to a service's virtual addresses."""
    return {":".join(obj.value) for obj in elements(host) if obj.owner == f"virtual-{service}"}


def elements(host: Host) -> list[SetElement]:
    found = host.kernel.simulation.of_type(SetElement)
    return [obj for obj in found if obj.set_name.startswith(("spread", "sticky", "near"))]


async def checked(host: Host) -> None:
    assert await host.engine.plan() == ()


# What there is


async def test_a_host_whose_nftables_knows_no_such_maps_has_all_but_virtual_addresses(
    hosts: list[Host],
) -> None:
    one, two, _ = hosts
    await two.reboot(capabilities=FACTS.capabilities - {"virtual"})
    await two.engine.cluster.join([one.cluster.address], None)
    await register(one, "w1", "192.0.2.21")
    await expose(one)
    await settled(one, two)
    assert targets(one) == {"192.0.2.21:8080"}
    assert elements(two) == []
    (shown,) = two.engine.virtuals.all()
    assert "libnftables is older" in shown.conditions[0].detail
    with pytest.raises(Unavailable, match="on another host"):
        await expose(two, "other")
    await two.network("blue")
    await two.attach("blue", "c1")
    await checked(two)
    await one.engine.virtuals.delete("web")
    await settled(one, two)
    assert two.engine.virtuals.all() == ()


async def test_they_are_the_same_on_all_hosts_and_all_have_a_way_to_them(hosts: list[Host]) -> None:
    one, two, three = hosts
    made = await expose(one)
    await settled(*hosts)
    assert made.addresses[0].startswith("10.191.")
    assert made.addresses[1].startswith("fd6e:6574:6400::")
    for host in hosts:
        assert host.engine.virtuals.find("web") == made
        assert host.engine.virtuals.all() == (made,)
        assert f"link {LINK} type bridge" in host.text()
        assert f"route 10.191.0.0/16 dev {LINK}" in host.text()
        await checked(host)
    assert made.instances == 0
    await register(two, "web-1", "198.51.100.7")
    await settled(*hosts)
    for host in hosts:
        assert targets(host) == {"198.51.100.7:8080"}
        assert host.engine.virtuals.find("web").instances == 1
        await checked(host)
    await three.engine.virtuals.delete("web")
    await settled(*hosts)
    for host in hosts:
        assert host.text() == ""
        assert host.engine.virtuals.all() == ()
        await checked(host)


async def test_asked_for_again_it_is_there_and_other_ports_are_at_the_same_addresses(
    host: Host,
) -> None:
    made, created = await host.engine.virtuals.put("web", HTTP)
    assert created
    assert await host.engine.virtuals.put("web", HTTP) == (made, False)
    await register(host, "web-1", "198.51.100.7")
    changed, created = await host.engine.virtuals.put("web", DNS)
    assert not created
    assert (changed.addresses, changed.created_at) == (made.addresses, made.created_at)
    assert changed.ports == DNS.ports
    assert {obj.element[1:3] for obj in elements(host)} == {("udp", "53")}
    await host.engine.virtuals.delete("web")
    await host.engine.virtuals.delete("web")
    with pytest.raises(NotFound, match="expose"):
        host.engine.virtuals.find("web")
    assert [event.type for event in host.seen if event.type.startswith("virtual")] == [
        "virtual.created",
        "virtual.deleted",
    ]
    again = await expose(host)
    assert again.addresses == made.addresses


@pytest.mark.parametrize(
    ("service", "ports", "field"),
    [
        ("Web", [80], "service"),
        ("a.b", [80], "service"),
        ("web", [80, 81, 80], "ports[2]"),
    ],
)
async def test_what_cannot_be_is_refused(
    host: Host, service: str, ports: list[int], field: str
) -> None:
    spec = VirtualSpec(ports=tuple(VirtualPort(port=port) for port in ports))
    with pytest.raises(Invalid) as refused:
        await host.engine.virtuals.put(service, spec)
    assert refused.value.field == field
    assert host.engine.virtuals.all() == ()
    assert host.text() == ""


async def test_without_room_in_the_store_nothing_is_claimed(hosts: list[Host]) -> None:
    one, two, _ = hosts
    one.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await expose(one)
    await settled(*hosts)
    assert two.engine.virtuals.all() == one.engine.virtuals.all() == ()
    one.store.full = False
    await expose(one)


async def test_there_are_so_many_and_no_more(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "VIRTUALS_MAX", 2)
    await expose(host, "a")
    await expose(host, "b")
    with pytest.raises(Exhausted, match="2 services"):
        await expose(host, "c")
    await expose(host, "a", DNS)  # which it has


async def test_hosts_that_could_not_hear_each_other_come_to_agree(hosts: list[Host]) -> None:
    one, two, three = hosts
    first, second = rivals()
    one.mesh.cut(one.cluster, two.cluster)
    earlier = await expose(one, first)
    one.mesh.wall_s += 1
    two.clock.now_s += 1
    later = await expose(two, second)
    assert earlier.addresses == later.addresses
    one.mesh.heal(one.cluster, two.cluster)
    await settled(*hosts)
    shown = {host.engine.virtuals.all() for host in hosts}
    assert len(shown) == 1
    assert three.engine.virtuals.find(first).addresses == earlier.addresses
    assert three.engine.virtuals.find(second).addresses != later.addresses
    # It stays so when the other goes, until somebody asks for another.
    moved = three.engine.virtuals.find(second)
    assert (await expose(two, second, DNS)).addresses == moved.addresses
    await one.engine.virtuals.delete(first)
    await settled(*hosts)
    assert three.engine.virtuals.find(second).addresses == moved.addresses


def rivals() -> tuple[str, str]:
    """Two services that would choose the same number."""
    seen: dict[int, str] = {}
    for at in itertools.count():
        number = wished(f"web-{at}", 0, range(1, 65_535))
        if number in seen:
            return seen[number], f"web-{at}"
        seen[number] = f"web-{at}"
    raise AssertionError


async def test_they_outlive_the_host_that_made_them_where_there_are_instances(
    hosts: list[Host],
) -> None:
    one, two, three = hosts
    kept = await expose(one, "web")
    await expose(one, "alone")
    await register(two, "web-1", "198.51.100.7")
    await settled(*hosts)
    one.cluster.becomes("dead")
    await settled(two, three)
    for host in (two, three):
        assert [each.id for each in host.engine.virtuals.all()] == ["web"]
        assert host.engine.virtuals.find("web").addresses == kept.addresses
    await two.restart()
    assert two.engine.virtuals.find("web").addresses == kept.addresses


async def test_what_is_taken_away_stays_away_when_a_host_comes_back(hosts: list[Host]) -> None:
    one, two, three = hosts
    await expose(one)
    await settled(*hosts)
    one.cluster.becomes("dead")
    await settled(two, three)
    await expose(two)
    await two.engine.virtuals.delete("web")
    one.cluster.becomes("alive")
    await settled(*hosts)
    assert [host.engine.virtuals.all() for host in hosts] == [(), (), ()]
    await one.restart()
    await one.engine.cluster.join([two.cluster.address], None)
    await settled(*hosts)
    assert [host.engine.virtuals.all() for host in hosts] == [(), (), ()]


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("web/1", b"no JSON"),
        ("web/1", b"{}"),
        ("web/2", b'{"name":"web","generation":1,"spec":null}'),
        ("WEB/1", b'{"name":"WEB","generation":1,"spec":null}'),
        ("web/0", b'{"name":"web","generation":0,"spec":null}'),
        ("web", b'{"name":"web","generation":1,"spec":null}'),
        ("web/1", b'{"name":"web","generation":1,"spec":{"ports":[]}}'),
        ("web/1", b'{"name":"web","generation":1,"spec":{"ports":[{"port":1},{"port":1}]}}'),
    ],
)
async def test_what_no_netd_would_claim_is_ignored(
    hosts: list[Host], key: str, body: bytes
) -> None:
    one, two, _ = hosts
    two.cluster.claim(CLAIMS, key, body)
    await settled(*hosts)
    assert one.engine.virtuals.all() == ()
    assert one.engine.counters()["virtual_claims_ignored"] >= 1
    await expose(one)


# Which instances take connections


async def test_only_instances_that_are_well_and_have_weight_take_connections(host: Host) -> None:
    await expose(host)
    beat = CheckSpec(kind="ttl", ttl_s=60, id="beat")
    await register(host, "web-1", "198.51.100.1", checks=(beat,))
    await register(host, "web-2", "198.51.100.2", weights=Weights(passing=2, warning=0))
    await register(host, "web-3", "198.51.100.3", weights=Weights(passing=0))
    await register(host, "web-4", "127.0.0.1")
    await register(host, "web-5", "10.191.0.77")
    assert targets(host) == {"198.51.100.2:8080"}
    host.engine.services.report("web-1", "beat", CheckResult(status="passing"))
    await settled(host)
    assert targets(host) == {"198.51.100.1:8080", "198.51.100.2:8080"}
    assert len(elements(host)) == 3  # one of weight 1, two of weight 2
    await host.engine.services.maintain("web-2", Maintenance(enable=True))
    await settled(host)
    assert targets(host) == {"198.51.100.1:8080"}
    assert host.engine.virtuals.find("web").instances == 1
    await checked(host)


async def test_nobody_is_led_to_a_tunnel(host: Host) -> None:
    spec = VirtualSpec(
        ports=(VirtualPort(port=80, protocol="udp"), VirtualPort(port=4789, protocol="tcp"))
    )
    await expose(host, spec=spec)
    await register(host, "web-1", "198.51.100.1", port=4789)
    assert {obj.element[1:3] for obj in elements(host)} == {("tcp", "4789")}


async def test_each_address_leads_to_instances_of_its_family(host: Host) -> None:
    made = await expose(host)
    await register(host, "web-1", "198.51.100.1")
    await register(host, "web-2", "2001:db8::2")
    assert {(obj.element[0], obj.value) for obj in elements(host)} == {
        (made.addresses[0], ("198.51.100.1", "8080")),
        (made.addresses[1], ("2001:db8::2", "8080")),
    }


async def test_an_instance_in_a_network_is_reached_from_hosts_that_have_the_network(
    hosts: list[Host],
) -> None:
    one, two, three = hosts
    await one.network("blue", "overlay", subnets=("10.20.0.0/16",))
    web = await two.attach("blue", "web")
    await one.attach("blue", "client")
    await expose(one)
    await two.engine.services.put("web-1", ServiceSpec(name="web", port=8080, endpoint=web.id))
    await settled(*hosts)
    target = {f"{web.addresses[0].partition('/')[0]}:8080"}
    assert [targets(host) for host in hosts] == [target, target, set()]
    late = await three.attach("blue", "late")
    await settled(three)
    assert targets(three) == target
    await three.engine.detach(late.id)
    await settled(three)
    assert targets(three) == set()


async def test_a_network_of_one_host_is_not_that_of_the_same_name_on_another(
    hosts: list[Host],
) -> None:
    one, two, _ = hosts
    for host in (one, two):
        await host.network("blue", subnets=("10.20.0.0/24",))
    web = await two.attach("blue", "web")
    await expose(one)
    await two.engine.services.put("web-1", ServiceSpec(name="web", port=80, endpoint=web.id))
    await settled(*hosts)
    assert [len(targets(host)) for host in hosts] == [0, 1, 0]


def led(host: Host) -> dict[str, set[str]]:
    """The addresses that clients are led to, by the link that they are at; "" for all others."""
    links = (LINK, *(bridge_name(each.name) for each in host.engine.networks()))
    names = {str(client_number(link, "tcp")): link for link in links}
    found: dict[str, set[str]] = {}
    for each in elements(host):
        link = names[each.element[1]] if each.set_name.startswith("near") else ""
        found.setdefault(link, set()).add(each.value[0])
    return found


async def test_clients_are_led_to_instances_that_they_reach_from_their_network(host: Host) -> None:
    await expose(host)
    for number, name in enumerate(("blue", "red", "green", "grey")):
        await host.network(
            name, subnets=(f"10.{20 + number}.0.0/24",), isolated=name in ("blue", "red")
        )
    for name in ("blue", "red", "green"):
        endpoint = await host.attach(name, name)
        spec = ServiceSpec(name="web", port=8080, endpoint=endpoint.id)
        await host.engine.services.put(name, spec)
    await register(host, "far", "198.51.100.1")
    everything = {"10.20.0.2", "10.21.0.2", "10.22.0.2", "198.51.100.1"}
    reached = {
        "": {"198.51.100.1"},
        LINK: everything,
        "nd-blue": {"10.20.0.2", "198.51.100.1"},
        "nd-red": {"10.21.0.2", "198.51.100.1"},
        "nd-green": {"10.22.0.2", "198.51.100.1"},
        "nd-grey": {"10.22.0.2", "198.51.100.1"},
    }
    assert led(host) == reached
    await checked(host)
    await host.engine.delete_network("grey")
    await settled(host)
    del reached["nd-grey"]
    assert led(host) == reached
    before = [str(each) for each in elements(host)]
    host.kernel.operations.clear()
    await host.restart()
    assert [str(each) for each in elements(host)] == before
    assert not [text for text in host.kernel.operations if "element" in text]
    await deregister(host, "far")
    del reached[""]
    assert led(host) == {link: found - {"198.51.100.1"} for link, found in reached.items()}
    await checked(host)


async def test_an_internal_network_is_led_to_the_host_itself_and_not_outside(host: Host) -> None:
    await expose(host)
    await register(host, "here", "192.0.2.10")
    await register(host, "far", "198.51.100.1")
    assert led(host) == {"": {"192.0.2.10", "198.51.100.1"}}
    await host.network("green", subnets=("10.20.0.0/24",), internal=True)
    await settled(host)
    assert led(host)["nd-green"] == {"192.0.2.10"}
    await checked(host)


async def test_nobody_is_led_to_a_place_of_the_same_address_as_one_on_another_host(
    hosts: list[Host],
) -> None:
    one, two, _ = hosts
    await one.network("blue", subnets=("10.20.0.0/24",))
    await expose(one)
    await register(two, "web-1", "10.20.0.9")  # which is somewhere else for that host
    await settled(*hosts)
    assert [len(targets(host)) for host in hosts] == [0, 1, 1]


async def test_a_port_of_a_bridge_sends_back_what_an_instance_sends_itself(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    web, other = await host.attach("blue", "c1"), await host.attach("blue", "c2")
    await host.engine.services.put("web-1", ServiceSpec(name="web", port=80, endpoint=web.id))
    await settled(host)
    assert "hairpin" not in host.text()
    await expose(host)

    def mirrored() -> list[str]:
        return [line.split()[2] for line in host.text().splitlines() if "hairpin on" in line]

    assert mirrored() == [web.host_ifname]
    await host.engine.services.put("web-2", ServiceSpec(name="web", port=80, endpoint=other.id))
    await deregister(host, "web-1")
    assert mirrored() == [other.host_ifname]
    host.kernel.operations.clear()
    await host.restart()
    assert not [text for text in host.kernel.operations if "veth" in text]
    assert mirrored() == [other.host_ifname]
    await host.engine.virtuals.delete("web")
    assert mirrored() == []
    await checked(host)


async def test_an_instance_at_a_published_port_is_led_to_its_container(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    await expose(host)
    await register(host, "web-1", "192.0.2.10", port=8080)
    assert targets(host) == {"192.0.2.10:8080"}
    web = await host.attach("blue", "c1", ports=(PortMapping(host_port=8080, container_port=80),))
    await settled(host)
    assert targets(host) == {f"{web.addresses[0].partition('/')[0]}:80"}
    await checked(host)
    await host.engine.detach(web.id)
    await settled(host)
    assert targets(host) == {"192.0.2.10:8080"}


# Flows


def flow(virtual: Virtual, target: str, protocol: Literal["tcp", "udp"] = "tcp") -> Flows:
    (port,) = virtual.ports
    return Flows(
        protocol=protocol,
        address=virtual.addresses[0],
        port=port.port,
        target=target,
        target_port=port.target_port or 8080,
    )


async def test_udp_goes_elsewhere_at_once(host: Host) -> None:
    virtual = await expose(host, spec=DNS)
    await register(host, "web-1", "198.51.100.1")
    # Nothing was led anywhere before: a client may have sent to the address itself.
    assert host.kernel.forgotten == [Flows(protocol="udp", address=virtual.addresses[0], port=53)]
    await register(host, "web-2", "198.51.100.2")
    host.kernel.forgotten.clear()
    await deregister(host, "web-1")
    assert host.kernel.forgotten == [flow(virtual, "198.51.100.1", "udp")]
    host.kernel.forgotten.clear()
    await host.engine.virtuals.delete("web")
    assert host.kernel.forgotten == [flow(virtual, "198.51.100.2", "udp")]


async def test_tcp_is_drained(host: Host) -> None:
    spec = VirtualSpec(ports=HTTP.ports, drain_s=0.02)
    virtual = await expose(host, spec=spec)
    await register(host, "web-1", "198.51.100.1")
    await register(host, "web-2", "198.51.100.2")
    host.kernel.translated = [flow(virtual, f"198.51.100.{at}") for at in (1, 2)]
    await deregister(host, "web-1")
    assert host.kernel.forgotten == []
    assert host.engine.levels()["virtual_targets_draining"] == 1
    host.clock.now_s += 1
    await forgotten(host, flow(virtual, "198.51.100.1"))
    assert host.kernel.translated == [flow(virtual, "198.51.100.2")]
    assert host.engine.levels()["virtual_targets_draining"] == 0


async def test_an_instance_that_comes_back_keeps_its_connections(host: Host) -> None:
    virtual = await expose(host, spec=VirtualSpec(ports=HTTP.ports, drain_s=3600))
    await register(host, "web-1", "198.51.100.1")
    await host.engine.services.maintain("web-1", Maintenance(enable=True))
    await settled(host)
    assert targets(host) == set()
    assert host.engine.levels()["virtual_targets_draining"] == 1
    await host.engine.services.maintain("web-1", Maintenance(enable=False))
    await settled(host)
    assert targets(host) == {"198.51.100.1:8080"}
    assert host.engine.levels()["virtual_targets_draining"] == 0
    assert flow(virtual, "198.51.100.1") not in host.kernel.forgotten


async def test_a_dead_endpoint_drains_nothing(host: Host) -> None:
    virtual = await expose(host, spec=VirtualSpec(ports=HTTP.ports, drain_s=3600))
    await host.network("blue", subnets=("10.20.0.0/24",))
    web = await host.attach("blue", "c1")
    await host.engine.services.put("web-1", ServiceSpec(name="web", port=8080, endpoint=web.id))
    await settled(host)
    assert targets(host) == {"10.20.0.2:8080"}
    host.kernel.namespace_ended(sandbox_of(host, "c1"))
    await forgotten(host, flow(virtual, "10.20.0.2"))
    assert targets(host) == set()


async def test_many_services_are_balanced_in_batches(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancing, "AT_ONCE", 3)
    await host.network("blue", subnets=("10.20.0.0/24",))
    web = await host.attach("blue", "c1")
    shown = {}
    for number in range(10):
        name = f"web-{number}"
        spec = VirtualSpec(ports=HTTP.ports, drain_s=3600)
        shown[name], _ = await host.engine.virtuals.put(name, spec)
        await host.engine.services.put(name, ServiceSpec(name=name, port=8080, endpoint=web.id))
    await settled(host)
    assert {obj.owner for obj in elements(host)} == {f"virtual-{name}" for name in shown}
    batches = host.engine.counters()["virtual_batches"]
    host.kernel.namespace_ended(sandbox_of(host, "c1"))
    for virtual in shown.values():
        await forgotten(host, flow(virtual, "10.20.0.2"))
    assert elements(host) == []
    assert host.engine.counters()["virtual_batches"] >= batches + 4


def sandbox_of(host: Host, container: str) -> Sandbox:
    box = host.kernel.places[f"/run/netns/{container}"]
    assert isinstance(box, Sandbox)
    return box


async def forgotten(host: Host, wanted: Flows) -> None:
    async with asyncio.timeout(5):
        while wanted not in host.kernel.forgotten:
            await asyncio.sleep(0.005)  # nothing tells of what the kernel was asked


# What others do to it


async def test_a_flushed_ruleset_comes_back(host: Host) -> None:
    await expose(host)
    await register(host, "web-1", "198.51.100.1")
    await register(host, "web-2", "198.51.100.2")
    before = host.text()
    host.kernel.by_hand.flush_ruleset()
    await host.happened("drift.repaired", "spread2_4")
    await host.quiet()
    assert host.text() == before


async def test_a_link_that_is_removed_comes_back(host: Host) -> None:
    await expose(host)
    before = host.text()
    host.kernel.by_hand.delete_link(LINK)
    await host.happened("drift.repaired", LINK)
    await host.quiet()
    assert host.text() == before


async def test_what_the_kernel_refuses_is_a_condition_until_it_does_not(host: Host) -> None:
    await expose(host)
    host.kernel.faults.refuse(lambda text: text.startswith("add element spread1_4"), errno.ENOMEM)
    await register(host, "web-1", "198.51.100.1")
    (condition,) = host.engine.virtuals.find("web").conditions
    assert "spread1_4" in condition.detail
    host.kernel.faults.clear()
    await host.engine.reconcile()
    assert targets(host) == {"198.51.100.1:8080"}
    await register(host, "web-2", "198.51.100.2")
    assert host.engine.virtuals.find("web").conditions == ()


async def test_a_restart_changes_nothing_until_others_have_been_heard(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = hosts
    monkeypatch.setattr(virtuals, "GRACE_S", UNHEARD)
    await expose(two)
    await expose(two, "gone")
    await register(one, "web-1", "198.51.100.1")
    await register(two, "web-2", "198.51.100.2")
    await register(two, "gone-1", "198.51.100.9", name="gone")
    await settled(*hosts)
    before = one.text()
    await one.stop()
    await two.engine.virtuals.delete("gone")
    one.kernel.process_ended()
    one.kernel.operations.clear()
    await one.start()
    await settled(one)
    assert one.text() == before
    assert [text for text in one.kernel.operations if "spread" in text] == []
    await one.engine.cluster.join([two.cluster.address], None)
    await settled(*hosts)
    assert targets(one) == {"198.51.100.1:8080", "198.51.100.2:8080"}
    assert targets(one, "gone") == set()
    await checked(one)


async def test_what_nobody_speaks_of_goes_when_the_grace_is_over(
    hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = hosts
    monkeypatch.setattr(virtuals, "GRACE_S", UNHEARD)
    await expose(two)
    await register(two, "web-2", "198.51.100.2")
    await settled(*hosts)
    await one.restart()
    assert targets(one) == {"198.51.100.2:8080"}
    one.engine.virtuals._balancing.end_grace()
    await settled(one)
    assert one.text() == ""
    await checked(one)
