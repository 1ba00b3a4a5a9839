"""Attach: what every driver makes, which requests are refused, and who gets what."""

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress

import pytest
from msgspec.structs import replace

from netd.kernel.fake import REAP
from netd.model.endpoint import AttachRequest, Bandwidth, EndpointPatch, PortMapping
from netd.model.errors import (
    Conflict,
    Exhausted,
    Invalid,
    KernelFailure,
    NetdError,
    NotFound,
    Unavailable,
)
from netd.model.names import veth_name
from netd.plan.addresses import derive_mac, parse_address
from netd.plan.bridge import PORTS_MAX
from netd.plan.ports import HeldPort
from tests.unit.engine_fixture import DISK_FULL, Host

SUBNETS = ("10.20.0.0/24", "fd20::/64")
WEB = PortMapping(host_port=80, container_port=8080)


def port(number: int = 80, **more: str) -> HeldPort:
    fields: dict[str, str] = {"protocol": "tcp", "address": "", **more}
    return HeldPort(family=4, port=number, **fields)  # type: ignore[arg-type]


# What each driver makes.


async def test_a_bridge_endpoint(host: Host) -> None:
    network = await host.network("blue", subnets=SUBNETS)
    endpoint = await host.attach("blue", "web", ports=(WEB,), bandwidth=Bandwidth(egress_bps=10**6))

    mac = derive_mac("blue", parse_address("10.20.0.2", ""))
    assert endpoint.addresses == ("10.20.0.2/24", "fd20::2/64")
    assert (endpoint.mac, endpoint.mtu) == (mac, 1500)
    assert (endpoint.network_id, endpoint.gateways) == (network.id, network.gateways)
    assert (endpoint.ifname, endpoint.host_ifname) == ("eth0", veth_name(endpoint.id))
    assert endpoint.dns.search == ("blue.netd.internal",)
    assert endpoint.default_route
    assert endpoint.name == "web"
    for line in (
        f"link {endpoint.host_ifname} type veth mtu 1500 master nd-blue",
        f"link eth0 address {mac} mtu 1500 up",
        "address 10.20.0.2/24 dev eth0",
        "address fd20::2/64 dev eth0",
        "route 0.0.0.0/0 via 10.20.0.1 dev eth0",
        "route ::/0 via fd20::1 dev eth0",
        "element ports4_any { tcp . 80 : 10.20.0.2 . 8080 }",
        "element ports6_any { tcp . 80 : fd20::2 . 8080 }",
        f"filter ingress dev {endpoint.host_ifname} mirred redirect",
    ):
        assert line in host.text()
    await host.check()


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
async def test_an_endpoint_on_a_parent_link(host: Host, driver: str) -> None:
    await host.network(
        "lan",
        driver,  # type: ignore[arg-type]
        subnets=("198.51.100.0/24",),
        gateways=("198.51.100.1",),
        options={"shim": True},
    )
    endpoint = await host.attach("lan", "web")

    assert endpoint.addresses == ("198.51.100.3/24",)  # the gateway and the shim have the others
    assert endpoint.host_ifname == ""
    assert bool(endpoint.mac) == (driver == "macvlan")
    assert f"link eth0 link eth0 type {driver}" in host.text()
    assert "route 198.51.100.3/32 dev ns-lan src 198.51.100.2" in host.text()
    assert "route 0.0.0.0/0 via 198.51.100.1 dev eth0" in host.text()
    await host.check()
    await host.engine.detach(endpoint.id)
    await host.check()


async def test_a_host_endpoint_has_the_nodes_addresses(host: Host) -> None:
    await host.network("node", "host")
    before = host.kernel.text()
    endpoint = await host.attach("node", "web", netns=None)

    assert endpoint.addresses == ("192.0.2.10/24",)
    assert (endpoint.ifname, endpoint.mac, endpoint.netns) == ("", "", "")
    assert host.kernel.text() == before
    assert host.engine.resolve("web.node", "A", None).records[0].data == "192.0.2.10"


async def test_a_host_endpoint_lives_in_the_hosts_namespace(host: Host) -> None:
    await host.network("node", "host")
    endpoint = await host.attach("node", "web", netns="/proc/1/ns/net")
    assert endpoint.netns == "/proc/1/ns/net"

    with pytest.raises(Invalid, match="not the host's") as caught:
        await host.attach("node", "other")
    assert caught.value.field == "netns"


async def test_a_none_endpoint_has_its_loopback_only(host: Host) -> None:
    await host.network("dark", "none")
    endpoint = await host.attach("dark", "web")
    assert (endpoint.addresses, endpoint.ifname, endpoint.default_route) == ((), "", False)
    assert host.text() == ""
    assert host.kernel.operations == ["add link lo up"]


async def test_a_container_may_be_named_by_its_process(host: Host) -> None:
    await host.network("blue")
    host.kernel.container(pid=4711)
    endpoint = await host.attach("blue", "web", netns=None, pid=4711)
    assert endpoint.netns == "/proc/4711/ns/net"


async def test_one_subnet_of_either_family_is_enough(host: Host) -> None:
    await host.network("four", subnets=("10.20.4.0/24",))
    await host.network("six", subnets=("fd66::/64",))
    assert (await host.attach("four", "a")).addresses == ("10.20.4.2/24",)
    assert (await host.attach("six", "b")).addresses == ("fd66::2/64",)
    await host.check()


# Bad requests.


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"container_id": "a b"}, Invalid, "container_id"),
        ({"netns": None}, Invalid, "netns"),
        ({"pid": 1}, Invalid, "pid"),
        ({"netns": "run/netns/web"}, Invalid, "netns"),
        ({"netns": "/run/netns/gone"}, NotFound, "netns"),
        ({"netns": "/etc"}, Invalid, "netns"),
        ({"netns": None, "pid": 99}, NotFound, "pid"),
        ({"netns": "/proc/1/ns/net"}, Invalid, "netns"),
        ({"netns": None, "pid": 1}, Invalid, "pid"),
        ({"ifname": "a/b"}, Invalid, "ifname"),
        ({"ifname": "eth%d"}, Invalid, "ifname"),
        ({"ifname": "sixteen-bytes-xx"}, Invalid, "ifname"),
        ({"ifname": "lo"}, Invalid, "ifname"),
        ({"name": "a.b"}, Invalid, "name"),
        ({"aliases": ("ok", "not ok")}, Invalid, "aliases[1]"),
        ({"aliases": ("x",) * 33}, Invalid, "aliases"),
        ({"labels": {"": "x"}}, Invalid, "labels."),
        ({"addresses": ("10.20.0.300",)}, Invalid, "addresses[0]"),
        ({"addresses": ("10.21.0.2",)}, Invalid, "addresses[0]"),
        ({"addresses": ("10.20.0.1",)}, Invalid, "addresses[0]"),
        ({"addresses": ("10.20.0.0",)}, Invalid, "addresses[0]"),
        ({"addresses": ("10.20.0.255",)}, Invalid, "addresses[0]"),
        ({"addresses": ("10.20.0.9", "10.20.0.10")}, Invalid, "addresses[1]"),
        ({"addresses": ("10.20.0.9", "fd20::1")}, Invalid, "addresses[1]"),
        ({"addresses": ("10.20.0.5",)}, Conflict, "addresses[0]"),
        ({"mac": "ff:ff:ff:ff:ff:ff"}, Invalid, "mac"),
        ({"mac": "nonsense"}, Invalid, "mac"),
        ({"mac": "02:00:00:00:00:05"}, Conflict, "mac"),
        ({"mac": derive_mac("blue", parse_address("10.20.0.1", ""))}, Conflict, "mac"),
        ({"ports": (replace(WEB, host_ip="192.0.2.300"),)}, Invalid, "ports[0].host_ip"),
        ({"ports": (WEB, replace(WEB, container_port=9))}, Invalid, "ports[1].host_port"),
        ({"ports": (replace(WEB, host_port=65535, count=2),)}, Invalid, "ports[0].host_port"),
        ({"ports": (replace(WEB, host_port=81),) * 4097}, Invalid, "ports"),
        ({"ports": (replace(WEB, host_port=5000),)}, Conflict, "ports"),
        ({"ports": (replace(WEB, host_port=90, count=20),)}, Conflict, "ports"),
    ],
)
async def test_a_bad_request_names_its_field_and_leaves_nothing(
    host: Host, fields: dict[str, object], error: type[NetdError], field: str
) -> None:
    await host.network("blue", subnets=SUBNETS)
    await host.attach(
        "blue",
        "other",
        addresses=("10.20.0.5",),
        mac="02:00:00:00:00:05",
        ports=(replace(WEB, host_port=100),),
    )
    host.kernel.places["/etc"] = "directory"
    host.kernel.by_hand.listen(port(5000))
    host.container("web")
    before = host.kernel.text()
    request = AttachRequest(container_id="web", netns="/run/netns/web")

    with pytest.raises(error) as caught:
        await host.engine.attach("blue", replace(request, **fields))

    assert caught.value.field == field
    assert len(host.engine.endpoints()) == 1
    assert host.kernel.text() == before
    # What it took has been given back: the right request gets the first address.
    endpoint, _ = await host.engine.attach("blue", replace(request, ports=(WEB,)))
    assert endpoint.addresses == ("10.20.0.2/24", "fd20::3/64")
    await host.check()


@pytest.mark.parametrize(
    ("driver", "more", "fields", "field"),
    [
        ("host", {}, {"addresses": ("192.0.2.10",)}, "addresses"),
        ("host", {}, {"mac": "02:00:00:00:00:05"}, "mac"),
        ("none", {}, {"ports": (WEB,)}, "ports"),
        ("none", {}, {"bandwidth": Bandwidth(egress_bps=10**6)}, "bandwidth"),
        ("macvlan", {}, {"ports": (WEB,)}, "ports"),
        ("ipvlan", {}, {"mac": "02:00:00:00:00:05"}, "mac"),
        ("bridge", {"internal": True}, {"ports": (WEB,)}, "ports"),
        ("bridge", {"internal": True}, {"default_route": True}, "default_route"),
    ],
)
async def test_a_driver_refuses_what_it_cannot_do(
    host: Host, driver: str, more: dict[str, bool], fields: dict[str, object], field: str
) -> None:
    await host.network("blue", driver, **more)  # type: ignore[arg-type]
    with pytest.raises(Invalid) as caught:
        await host.attach("blue", "web", **fields)
    assert caught.value.field == field


async def test_no_network_no_attach(host: Host) -> None:
    with pytest.raises(NotFound, match="no network 'blue'"):
        await host.attach("blue", "web")


# Addresses and MACs.


async def test_static_address_and_mac(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    endpoint = await host.attach(
        "blue", "web", addresses=("fd20::77", "10.20.0.77/24"), mac="02-00-00-00-00-AA"
    )
    assert endpoint.addresses == ("10.20.0.77/24", "fd20::77/64")
    assert endpoint.mac == "02:00:00:00:00:aa"
    await host.check()


async def test_a_mac_derived_for_the_very_address_may_be_asked_for(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    mac = derive_mac("blue", parse_address("10.20.0.7", ""))
    endpoint = await host.attach("blue", "web", addresses=("10.20.0.7",), mac=mac)
    assert endpoint.mac == mac


async def test_an_address_comes_back_with_its_name(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    first = await host.attach("blue", "web")
    await host.attach("blue", "db")
    await host.engine.detach(first.id)

    other = await host.attach("blue", "api")
    again = await host.attach("blue", "new-container", name="web")

    assert other.addresses[0] == "10.20.0.4/24"  # not that of web, which is in quarantine
    assert again.addresses == first.addresses
    assert again.mac == first.mac
    assert again.id != first.id


async def test_the_store_remembers_only_who_had_an_address_last(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    endpoint = await host.attach("blue", "web")
    assert (await host.store.load()).leases == ()
    await host.engine.detach(endpoint.id)
    lease, *others = (await host.store.load()).leases
    assert (lease.address, lease.name, others) == ("10.20.0.2", "web", [])
    await host.attach("blue", "web")
    assert (await host.store.load()).leases == ()
    await host.engine.detach_container("web")
    await host.engine.delete_network("blue")
    assert (await host.store.load()).leases == ()


async def test_quarantine_then_the_longest_unused(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/29",))  # .2 to .6
    endpoints = [await host.attach("blue", f"c{number}") for number in range(5)]
    for index in (3, 1):
        await host.engine.detach(endpoints[index].id)
        host.clock.now_s += 10

    with pytest.raises(Exhausted) as caught:
        await host.attach("blue", "x")
    assert caught.value.detail == (
        "10.20.0.0/29 has no free address: 3 are in use and 2 were given back less than 60 s ago; "
        "the first comes free in 40 s"
    )
    await host.restart()  # the leases are durable
    host.clock.now_s += 40
    assert (await host.attach("blue", "x")).addresses == endpoints[3].addresses
    with pytest.raises(Exhausted):
        await host.attach("blue", "y")
    host.clock.now_s += 10
    assert (await host.attach("blue", "y")).addresses == endpoints[1].addresses
    with pytest.raises(Exhausted, match=r"5 are in use$"):
        await host.attach("blue", "z")


async def test_a_clock_set_back_locks_no_address_away(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/30",))
    endpoint = await host.attach("blue", "web")
    await host.engine.detach(endpoint.id)
    host.clock.now_s -= 3600
    assert (await host.attach("blue", "other")).addresses == endpoint.addresses


async def test_a_failed_attach_does_not_shorten_quarantine(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/29",))
    web = await host.attach("blue", "web")
    await host.engine.detach(web.id)
    host.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await host.attach("blue", "web")
    host.store.full = False

    assert (await host.attach("blue", "db")).addresses == ("10.20.0.3/29",)
    assert (await host.attach("blue", "web")).addresses == web.addresses


async def test_a_hundred_at_once_get_different_addresses(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    endpoints = await asyncio.gather(*(host.attach("blue", f"c{n}") for n in range(100)))

    assert len({endpoint.addresses[0] for endpoint in endpoints}) == 100
    assert len({endpoint.addresses[1] for endpoint in endpoints}) == 100
    assert len({endpoint.mac for endpoint in endpoints}) == 100
    await host.check()


# The same attach again.


async def test_the_same_attach_again_changes_nothing(host: Host) -> None:
    await host.network("blue")
    host.container("web")
    request = AttachRequest(container_id="web", netns="/run/netns/web", ports=(WEB,))
    first = await host.engine.attach("blue", request)
    before = list(host.kernel.operations)

    again = await host.engine.attach("blue", request)

    assert (first[1], again[1]) == (True, False)
    assert again[0] == first[0]
    assert host.kernel.operations == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("aliases", ("a",)),
        ("addresses", ("10.20.0.9",)),
        ("mac", "02:00:00:00:00:05"),
        ("ports", ()),
        ("labels", {"a": "b"}),
        ("bandwidth", Bandwidth(ingress_bps=8_000)),
        ("default_route", False),
        ("netns", "/run/netns/elsewhere"),
    ],
)
async def test_another_attach_under_the_key_is_a_conflict(
    host: Host, field: str, value: object
) -> None:
    await host.network("blue", subnets=SUBNETS)
    host.container("elsewhere")
    endpoint = await host.attach("blue", "web", ports=(WEB,))
    before = host.text()

    with pytest.raises(Conflict, match=endpoint.id) as caught:
        await host.attach("blue", "web", **{"ports": (WEB,), field: value})

    assert caught.value.field == field
    assert host.text() == before


async def test_two_at_once_under_one_key_make_one(host: Host) -> None:
    await host.network("blue")
    host.container("web")
    request = AttachRequest(container_id="web", netns="/run/netns/web")
    results = await asyncio.gather(*(host.engine.attach("blue", request) for _ in range(5)))

    assert sorted(created for _, created in results) == [False] * 4 + [True]
    assert len({endpoint.id for endpoint, _ in results}) == 1
    await host.check()


async def test_the_second_of_two_at_once_makes_it_when_the_first_fails(host: Host) -> None:
    await host.network("blue")
    host.container("web")
    request = AttachRequest(container_id="web", netns="/run/netns/web")
    host.kernel.faults.fail(1, errno.ENOMEM)
    first, second = await asyncio.gather(
        host.engine.attach("blue", request),
        host.engine.attach("blue", request),
        return_exceptions=True,
    )
    assert isinstance(first, KernelFailure)
    assert isinstance(second, tuple)
    assert second[1]
    await host.check()


# A container that was started anew without a detach.


async def test_a_container_that_was_started_anew_replaces_its_endpoint(host: Host) -> None:
    await host.network("blue")
    old = await host.attach("blue", "web", ports=(WEB,))
    sandbox = host.kernel.places["/run/netns/web"]
    assert not isinstance(sandbox, str)
    host.kernel.events = "silent"
    host.kernel.by_hand.replace_namespace(sandbox)

    new = await host.attach("blue", "web", ports=(WEB,))

    assert new.id != old.id
    assert new.addresses == old.addresses
    assert host.engine.endpoints() == (new,)
    assert (await host.happened("endpoint.swept")).object == old.id
    await host.check()


# Interface names.


async def test_an_interface_name_that_is_taken_is_a_conflict(host: Host) -> None:
    await host.network("blue")
    sandbox = host.kernel.container(path="/run/netns/web")
    host.kernel.by_hand.add_link("eth0", kind="dummy", ns=sandbox.key)
    with pytest.raises(Conflict, match="choose another ifname") as caught:
        await host.attach("blue", "web")
    assert caught.value.field == "ifname"
    await host.attach("blue", "web", ifname="eth1")
    await host.check()


async def test_an_interface_that_is_being_removed_is_waited_for(host: Host) -> None:
    """A retired link keeps its name in the container until the kernel has removed it."""
    await host.network("blue")
    endpoint = await host.attach("blue", "web")
    await host.engine.detach(endpoint.id)
    assert REAP not in host.kernel.operations

    again = await host.attach("blue", "web")

    assert again.ifname == "eth0"
    assert REAP in host.kernel.operations
    await host.check()


# Several networks for one container.


async def test_the_second_network_routes_by_a_table_of_its_own(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    await host.network("red", subnets=("10.30.0.0/24", "fd30::/64"))
    first = await host.attach("blue", "web")
    second = await host.attach("red", "web", ifname="eth1")

    table = 0x4000_0000 | int(second.id[:8], 16) >> 2
    assert (first.default_route, second.default_route) == (True, False)
    assert f"route 0.0.0.0/0 via 10.30.0.1 dev eth1 table {table}" in host.text()
    assert f"rule from 10.30.0.2/32 lookup {table}" in host.text()
    assert f"rule from fd30::2/128 lookup {table}" in host.text()
    await host.check()


async def test_each_family_has_its_default_route(host: Host) -> None:
    await host.network("old", subnets=("10.1.0.0/24",))
    await host.network("new", subnets=("fd02::/64",))
    first = await host.attach("old", "web")
    second = await host.attach("new", "web", ifname="eth1", default_route=True)
    assert (first.default_route, second.default_route) == (True, True)
    assert "route 0.0.0.0/0 via 10.1.0.1 dev eth0" in host.text()
    assert "route ::/0 via fd02::1 dev eth1" in host.text()
    await host.check()


async def test_another_spelling_is_the_same_attach(host: Host) -> None:
    await host.network("blue", subnets=("10.1.0.0/24",))
    mac = "02:00:5E:00:00:AA"
    first = await host.attach("blue", "web", addresses=("10.1.0.5/24",), mac=mac)
    again = await host.attach("blue", "web", addresses=("10.1.0.5",), mac=mac.lower())
    assert again == first


async def test_the_default_route_can_be_chosen(host: Host) -> None:
    await host.network("blue")
    await host.network("red")
    await host.network("green")
    first = await host.attach("blue", "web", default_route=False)
    second = await host.attach("red", "web", ifname="eth1", default_route=True)
    assert (first.default_route, second.default_route) == (False, True)
    with pytest.raises(Conflict, match="'red'") as caught:
        await host.attach("green", "web", ifname="eth2", default_route=True)
    assert caught.value.field == "default_route"
    await host.check()


async def test_an_internal_network_has_no_default_route(host: Host) -> None:
    await host.network("inside", internal=True)
    await host.network("blue")
    inner = await host.attach("inside", "web")
    outer = await host.attach("blue", "web", ifname="eth1")
    assert (inner.default_route, outer.default_route) == (False, True)
    assert "route 0.0.0.0/0 via" not in "".join(
        line for line in host.text().splitlines() if "dev eth0" in line
    )
    await host.check()


async def test_what_leads_from_an_internal_network_to_virtual_addresses_goes_with_it(
    host: Host,
) -> None:
    await host.network("inside", internal=True, subnets=("10.20.0.0/24",))
    before = host.text()
    made = await host.attach("inside", "web")
    assert "route 10.191.0.0/16 via 10.20.0.1 dev eth0 table" in host.text()
    assert "rule from 0.0.0.0/0 lookup" in host.text()
    await host.check()
    await host.restart()
    await host.check()
    await host.engine.detach(made.id)
    await host.quiet()
    assert host.text() == before


async def test_a_container_may_be_twice_on_a_network(host: Host) -> None:
    await host.network("blue")
    first = await host.attach("blue", "web")
    second = await host.attach("blue", "web", ifname="eth1")
    assert not set(first.addresses) & set(second.addresses)
    await host.check()


# Ports.


async def test_a_port_of_another_endpoint_is_a_conflict(host: Host) -> None:
    await host.network("blue")
    holder = await host.attach("blue", "web", ports=(WEB,))
    for other in (WEB, replace(WEB, host_ip="192.0.2.10"), replace(WEB, host_port=75, count=10)):
        with pytest.raises(Conflict, match=f"80 is taken by endpoint {holder.id}"):
            await host.attach("blue", "other", ports=(other,))
    await host.attach("blue", "other", ports=(replace(WEB, protocol="udp"),))
    await host.check()


async def test_one_port_on_two_addresses_is_no_clash(host: Host) -> None:
    await host.network("blue")
    await host.attach("blue", "a", ports=(replace(WEB, host_ip="192.0.2.10"),))
    await host.attach("blue", "b", ports=(replace(WEB, host_ip="127.0.0.1"),))
    with pytest.raises(Conflict):
        await host.attach("blue", "c", ports=(WEB,))
    await host.check()


async def test_a_port_of_a_program_is_a_conflict_that_says_how_to_find_it(host: Host) -> None:
    await host.network("blue")
    host.kernel.by_hand.listen(port())
    with pytest.raises(Conflict, match="ss -lnp 'sport = :80'"):
        await host.attach("blue", "web", ports=(WEB,))
    host.kernel.by_hand.close(port())
    await host.attach("blue", "web", ports=(WEB,))


async def test_a_range_of_ports(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    await host.attach(
        "blue", "web", ports=(PortMapping(host_port=8000, container_port=80, count=3),)
    )
    for offset in range(3):
        element = f"ports4_any {{ tcp . {8000 + offset} : 10.20.0.2 . {80 + offset} }}"
        assert element in host.text()


async def test_a_host_endpoints_ports_are_checked_and_not_bound(host: Host) -> None:
    await host.network("node", "host")
    host.kernel.by_hand.listen(port(22))
    with pytest.raises(Conflict, match="program of the host"):
        await host.attach("node", "ssh", netns=None, ports=(replace(WEB, host_port=22),))
    await host.attach("node", "web", netns=None, ports=(WEB,))
    assert host.kernel.busy_ports([port()]) == []
    with pytest.raises(Conflict, match="taken by endpoint"):
        await host.attach("node", "other", netns=None, ports=(WEB,))


async def test_ports_that_the_runtime_holds_are_not_bound(host: Host) -> None:
    await host.network("blue", subnets=("10.20.0.0/24",))
    host.kernel.by_hand.listen(port())
    box = await host.attach("blue", "web", ports=(WEB,), hold_ports=False)
    with pytest.raises(Conflict, match="taken by endpoint"):
        await host.attach("blue", "other", ports=(WEB,), hold_ports=False)
    more = (WEB, replace(WEB, host_port=8081))
    await host.engine.update_endpoint(box.id, EndpointPatch(ports=more))
    assert host.kernel.busy_ports([port(8081)]) == []
    await host.restart()
    assert host.engine.endpoint(box.id).conditions == ()
    await host.engine.detach(box.id)
    await host.attach("blue", "other", ports=(WEB,), hold_ports=False)
    await host.check()


async def test_udp_flows_to_a_new_port_are_forgotten(host: Host) -> None:
    await host.network("blue")
    host.kernel.by_hand.send(port(53, protocol="udp"))
    host.kernel.by_hand.send(port(54, protocol="udp"))
    await host.attach("blue", "dns", ports=(replace(WEB, host_port=53, protocol="udp"),))
    assert host.kernel.flows == [port(54, protocol="udp")]


# A full bridge.


async def test_a_bridge_has_so_many_ports(host: Host) -> None:
    """One port is there already, which netd did not count: the kernel's refusal is told."""
    await host.network("blue")
    before = host.text()
    host.kernel.faults.refuse(lambda text: "type veth" in text, errno.EXFULL)
    with pytest.raises(Exhausted, match="1,023 ports"):
        await host.attach("blue", "web")
    assert host.text() == before


async def test_more_endpoints_than_a_bridge_has_ports(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netd.engine.endpoints.PORTS_MAX", 3)
    assert PORTS_MAX == 1023
    await host.network("blue")
    endpoints = [await host.attach("blue", f"c{number}") for number in range(3)]
    with pytest.raises(Exhausted):
        await host.attach("blue", "x")
    # A link that is not removed yet still is a port of the bridge.
    await host.engine.detach(endpoints[0].id)
    operations = len(host.kernel.operations)
    await host.attach("blue", "x")
    assert host.kernel.operations[operations] == REAP


# Failures leave nothing.


async def test_each_operation_that_the_kernel_refuses_leaves_nothing(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    await host.network("red", subnets=("10.30.0.0/24", "fd30::/64"))
    await host.attach("blue", "web")
    before = host.text()
    more = {"ports": (WEB,), "bandwidth": Bandwidth(ingress_bps=10**6, egress_bps=10**6)}
    for nth in range(1, 100):
        host.kernel.faults.fail(nth, errno.ENOMEM)
        with suppress(KernelFailure):
            endpoint = await host.attach("red", "web", ifname="eth1", **more)
            break
        assert host.text() == before, nth
        assert len(host.engine.endpoints()) == 1
    else:
        pytest.fail("the kernel refused something each time")
    assert nth > 10
    host.kernel.faults.clear()
    assert endpoint.addresses == ("10.30.0.2/24", "fd30::2/64")
    await host.check()


async def test_a_full_disk_leaves_nothing(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    before = host.text()
    host.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await host.attach("blue", "web", ports=(WEB,))
    host.store.full = False

    assert host.text() == before
    assert host.engine.endpoints() == ()
    assert host.engine.resolve("web", "A", None).rcode == "NXDOMAIN"
    endpoint = await host.attach("blue", "web", ports=(WEB,))
    assert endpoint.addresses[0] == "10.20.0.2/24"
    await host.check()


async def test_a_kernel_that_goes_down_leaves_nothing(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    before = host.text()
    with host.kernel.hold("enter") as gate:
        attaching = asyncio.create_task(host.attach("blue", "web", ports=(WEB,)))
        await gate.reached.wait()
        host.kernel.down = "no netlink"
        gate.opened.set()
        with pytest.raises(KernelFailure, match="no netlink"):
            await attaching
    host.kernel.down = ""
    assert host.text() == before
    assert (await host.attach("blue", "web", ports=(WEB,))).addresses[0] == "10.20.0.2/24"
    await host.check()


async def test_a_namespace_that_ends_during_attach(host: Host) -> None:
    await host.network("blue", subnets=SUBNETS)
    before = host.text()
    sandbox = host.kernel.container(path="/run/netns/web")
    with host.kernel.hold("enter") as gate:
        attaching = asyncio.create_task(host.attach("blue", "web"))
        await gate.reached.wait()
        host.kernel.by_hand.end_namespace(sandbox)
        gate.opened.set()
        with pytest.raises((NotFound, KernelFailure)):
            await attaching
    assert host.text() == before
    await host.check()


def test_veth_names_fit(new_host: Callable[[], Host]) -> None:
    assert len(veth_name(new_host().clock.new_id())) <= 15
