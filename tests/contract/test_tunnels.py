"""Tunnels, their forwarding entries, and neighbours: life, drift and what goes with what."""

import errno

import pytest
from msgspec.structs import replace

from netd.engine.interfaces import Trigger
from netd.model.network import Network
from netd.plan.interior import deaf_to_routers
from netd.plan.objects import HOST, Address, Bridge, Object, SetElement, Veth, VethPeer
from netd.plan.overlay import Opening, open_objects
from netd.plan.tunnels import ALL_HOSTS, FdbEntry, Neighbour, Vxlan
from tests.contract.lab import Lab
from tests.contract.test_lifecycles import MAC, OTHER_MAC, pair
from tests.contract.worlds import Half

BLUE = Bridge(owner="net-1", name="nd-blue", mac=MAC, mtu=1450)
RED = Bridge(owner="net-2", name="nd-red", mac=OTHER_MAC, mtu=1450)
HOST_MAC = "02:42:0a:14:00:fe"
FAR_MAC = "02:42:0a:14:00:07"
TUNNEL = Vxlan(
    owner="net-1",
    name="nx-blue",
    mtu=1450,
    vni=5000,
    port=4789,
    mac=HOST_MAC,
    master="nd-blue",
)
FDB = FdbEntry(owner="net-1", link="nx-blue", mac=FAR_MAC, destination="192.0.2.7")
NEIGHBOUR = Neighbour(owner="net-1", link="nd-blue", address="10.20.0.7", mac=FAR_MAC)
NEIGHBOUR6 = replace(NEIGHBOUR, address="fd20::7")
NETWORK: list[Object] = [BLUE, TUNNEL, FDB, NEIGHBOUR, NEIGHBOUR6]


def to_all(destination: str) -> FdbEntry:
    return FdbEntry(owner="net-1", link="nx-blue", mac=ALL_HOSTS, destination=destination)


@pytest.mark.parametrize(
    "changed",
    [
        replace(TUNNEL, mtu=1400),
        replace(TUNNEL, flood=True),
        replace(TUNNEL, mac=OTHER_MAC),
        replace(TUNNEL, owner="net-3"),
        replace(TUNNEL, master="nd-red", flood=True),
    ],
)
async def test_a_tunnel_is_changed_and_keeps_its_entries(lab: Lab, changed: Vxlan) -> None:
    await lab.converge(RED, *NETWORK)
    rest = [BLUE, RED, FDB, NEIGHBOUR, NEIGHBOUR6]
    first, *others = await lab.converge(changed, *rest)
    assert (first.verb, first.object) == ("change", changed)
    # The bridge that it leaves forgets the entries.
    moved = [FDB.key] if changed.master != TUNNEL.master else []
    assert [op.object.key for op in others] == moved
    await lab.converge(RED, *NETWORK)


@pytest.mark.parametrize(
    "changed", [replace(TUNNEL, vni=5001), replace(TUNNEL, port=8472), replace(TUNNEL, vni=1)]
)
async def test_vni_and_port_are_for_life(lab: Lab, changed: Vxlan) -> None:
    """A tunnel with others is made anew, in the same plan with what was on it."""
    await lab.converge(*NETWORK)
    plan = await lab.converge(BLUE, changed, FDB, NEIGHBOUR, NEIGHBOUR6)
    assert [(op.verb, op.object) for op in plan] == [("change", changed), ("add", FDB)]


async def test_so_is_the_address_family(lab: Lab) -> None:
    await lab.converge(*NETWORK)
    assert await lab.add(replace(FDB, mac=OTHER_MAC, destination="2001:db8::7")) == [
        errno.EAFNOSUPPORT
    ]
    changed, entry = replace(TUNNEL, family=6), replace(FDB, destination="2001:db8::7")
    await lab.converge(BLUE, changed, entry)
    assert await lab.add(replace(FDB, mac=OTHER_MAC)) == [errno.EAFNOSUPPORT]
    await lab.converge(*NETWORK)


async def test_one_vni_has_one_tunnel(lab: Lab) -> None:
    await lab.converge(RED, *NETWORK)
    second = replace(TUNNEL, name="nx-red", master="nd-red", mac=OTHER_MAC)
    assert await lab.add(second) == [errno.EEXIST]
    assert second.key not in await lab.see(second)
    await lab.converge(RED, *NETWORK, replace(second, vni=5001))
    # Of another address family it is another tunnel.
    await lab.converge(RED, *NETWORK, replace(second, family=6))


async def test_a_strangers_link_in_the_way_of_a_tunnel_is_left_alone(lab: Lab) -> None:
    lab.world.add_link("nx-blue")
    assert await lab.add(BLUE, TUNNEL, FDB) == [errno.EEXIST, errno.EPERM]
    seen = await lab.observe(BLUE, TUNNEL, FDB)
    assert seen.foreign == {TUNNEL.key}
    assert {TUNNEL.key, FDB.key}.isdisjoint(seen.state)
    assert await lab.run("delete", FDB) == []
    assert await lab.run("delete", TUNNEL) == [errno.EPERM]
    assert lab.world.links() == {"nd-blue", "nx-blue"}
    lab.world.delete_link("nx-blue")
    await lab.converge(*NETWORK)


async def test_entries_go_with_their_link(lab: Lab) -> None:
    everything = [*NETWORK, to_all("192.0.2.7")]
    await lab.converge(*everything)
    lab.world.delete_link("nx-blue")
    assert (await lab.see(*everything)).keys() == {BLUE.key, NEIGHBOUR.key, NEIGHBOUR6.key}
    await lab.converge(*everything)
    lab.world.delete_link("nd-blue")
    seen = await lab.see(*everything)
    # The tunnel and its half of the entries are left.
    assert seen.keys() == {TUNNEL.key, FDB.key, to_all("192.0.2.7").key}
    assert seen[FDB.key] == replace(FDB, bridged=False)
    assert seen[TUNNEL.key] == replace(TUNNEL, master="", quiet=False)
    await lab.converge(*everything)


async def test_what_a_tunnel_has_and_nobody_wants_is_removed(lab: Lab) -> None:
    await lab.converge(BLUE, TUNNEL)
    lab.world.set_fdb_entry(FDB)
    lab.world.set_neighbour(NEIGHBOUR)
    lab.world.set_neighbour(NEIGHBOUR6)
    seen = (await lab.observe(BLUE, TUNNEL)).state
    assert [seen[obj.key] for obj in (FDB, NEIGHBOUR, NEIGHBOUR6)] == [FDB, NEIGHBOUR, NEIGHBOUR6]
    plan = await lab.converge(BLUE, TUNNEL)
    assert {op.object.key for op in plan} == {FDB.key, NEIGHBOUR.key, NEIGHBOUR6.key}
    assert {op.verb for op in plan} == {"delete"}


async def test_neighbours_on_a_bridge_without_a_tunnel_are_others(lab: Lab) -> None:
    await lab.converge(BLUE)
    lab.world.set_neighbour(NEIGHBOUR)
    assert await lab.converge(BLUE) == []
    # One that is wanted is adopted.
    assert await lab.converge(BLUE, NEIGHBOUR) == []


async def test_other_values_are_put_right(lab: Lab) -> None:
    await lab.converge(*NETWORK)
    lab.world.set_fdb_entry(replace(FDB, destination="192.0.2.66"))
    lab.world.set_neighbour(replace(NEIGHBOUR, mac=OTHER_MAC))
    lab.world.set_neighbour(replace(NEIGHBOUR6, mac=OTHER_MAC))
    plan = await lab.converge(*NETWORK)
    assert [(op.verb, op.object) for op in plan] == [
        ("change", FDB),
        ("change", NEIGHBOUR),
        ("change", NEIGHBOUR6),
    ]


async def test_a_change_of_what_is_gone_makes_it(lab: Lab) -> None:
    hosts = to_all("192.0.2.7")
    await lab.converge(BLUE, TUNNEL)
    assert await lab.run("change", FDB, NEIGHBOUR, NEIGHBOUR6, hosts) == []
    assert await lab.converge(*NETWORK, hosts) == []


@pytest.mark.parametrize("half", ["bridge", "link"])
async def test_half_an_entry_is_made_whole(lab: Lab, half: Half) -> None:
    await lab.converge(*NETWORK)
    lab.world.delete_fdb_half(half, FDB)
    assert (await lab.see(FDB))[FDB.key] != FDB
    plan = await lab.converge(*NETWORK)
    assert [(op.verb, op.object) for op in plan] == [("change", FDB)]


@pytest.mark.parametrize("half", ["bridge", "link"])
async def test_half_an_entry_can_be_removed(lab: Lab, half: Half) -> None:
    await lab.converge(*NETWORK)
    lab.world.delete_fdb_half(half, FDB)
    assert await lab.run("delete", FDB) == []
    assert FDB.key not in await lab.see(*NETWORK)


async def test_what_goes_to_all_hosts_goes_to_each_once(lab: Lab) -> None:
    tunnel = replace(TUNNEL, flood=True)
    hosts = [to_all(f"192.0.2.{number}") for number in (1, 2, 3)]
    await lab.converge(BLUE, tunnel, *hosts)
    assert await lab.add(*hosts) == []
    assert await lab.converge(BLUE, tunnel, *hosts) == []
    await lab.converge(BLUE, tunnel, hosts[0], hosts[2])
    assert await lab.run("delete", hosts[1]) == []
    lab.world.delete_fdb_half("link", hosts[0])
    assert (await lab.see(*hosts)).keys() == {hosts[2].key}
    await lab.converge(BLUE, tunnel, *hosts)


async def test_a_port_that_leaves_its_bridge_comes_back_quiet(lab: Lab) -> None:
    await lab.converge(*NETWORK)
    lab.world.set_link("nx-blue", master="")
    assert (await lab.see(FDB))[FDB.key] == replace(FDB, bridged=False)
    plan = await lab.converge(*NETWORK)
    assert [(op.verb, op.object) for op in plan] == [("change", TUNNEL), ("add", FDB)]
    lab.world.set_link("nx-blue", master="")
    lab.world.set_link("nx-blue", master="nd-blue")
    plan = await lab.converge(*NETWORK)
    assert [op.object for op in plan] == [TUNNEL, FDB]


async def test_a_port_that_is_not_quiet_is_put_right(lab: Lab) -> None:
    await lab.converge(*NETWORK)
    lab.world.spoil_port("nx-blue")
    plan = await lab.converge(*NETWORK)
    assert [(op.verb, op.object) for op in plan] == [("change", TUNNEL)]


async def test_a_bridge_keeps_its_neighbours_unless_its_mac_changes(lab: Lab) -> None:
    await lab.converge(*NETWORK)
    rest = [TUNNEL, FDB, NEIGHBOUR, NEIGHBOUR6]
    smaller = replace(BLUE, mtu=1400, owner="net-4")
    assert [op.object for op in await lab.converge(smaller, *rest)] == [smaller]
    other = replace(BLUE, mac=OTHER_MAC)
    assert [op.object for op in await lab.converge(other, *rest)] == [other, NEIGHBOUR, NEIGHBOUR6]
    lab.world.set_link("nd-blue", up=False)
    assert {NEIGHBOUR.key, NEIGHBOUR6.key}.isdisjoint(await lab.see(*NETWORK))
    await lab.converge(*NETWORK)


async def test_an_mtu_changes_while_everything_runs(lab: Lab) -> None:
    box = await lab.container()
    ends = pair(box, master="nd-blue")

    def all_with(mtu: int) -> list[Object]:
        links = [replace(BLUE, mtu=mtu), replace(TUNNEL, mtu=mtu)]
        return [*links, *(replace(end, mtu=mtu) for end in ends), FDB, NEIGHBOUR, NEIGHBOUR6]

    await lab.converge(*all_with(1450))
    for mtu in (1380, 1450, 8950):
        plan = await lab.converge(*all_with(mtu))
        assert [op.verb for op in plan] == ["change"] * 4


async def test_entries_in_their_thousands(lab: Lab) -> None:
    def entries(host: str, numbers: range) -> list[Object]:
        found: list[Object] = []
        for number in numbers:
            mac = f"02:42:00:00:{number >> 8:02x}:{number & 255:02x}"
            address = f"10.{number >> 8}.{number & 255}.1"
            found.append(replace(FDB, mac=mac, destination=host))
            found.append(replace(NEIGHBOUR, address=address, mac=mac))
        return found

    base: list[Object] = [BLUE, TUNNEL]
    await lab.converge(*base, *entries("192.0.2.1", range(2000)))
    moved = await lab.converge(*base, *entries("192.0.2.2", range(1000, 3000)))
    assert len(moved) == 2 * 1000 + 1000 + 2 * 1000
    await lab.converge(*base)


async def test_changes_of_entries_by_others_are_told(lab: Lab) -> None:
    hosts = to_all("192.0.2.1")
    await lab.converge(*NETWORK, hosts)
    with lab.triggers() as triggers:

        async def until(obj: FdbEntry | Neighbour, verb: str, value: str | None = None) -> None:
            def matches(seen: Trigger) -> bool:
                is_it = (seen.key, seen.verb) == (obj.key, verb)
                return is_it and value in (None, seen.value)

            await triggers.until(matches)

        moved = replace(FDB, destination="192.0.2.66")
        lab.world.set_fdb_entry(moved)
        await until(FDB, "new", "192.0.2.66")
        lab.world.delete_fdb_half("bridge", moved)
        await until(FDB, "delete")
        lab.world.delete_fdb_half("link", moved)
        await until(FDB, "delete")
        lab.world.delete_fdb_half("link", hosts)
        await until(hosts, "delete", "192.0.2.1")
        for neighbour in (NEIGHBOUR, NEIGHBOUR6):
            lab.world.set_neighbour(replace(neighbour, mac=MAC))
            await until(neighbour, "new", MAC)
            lab.world.delete_neighbour(neighbour)
            await until(neighbour, "delete")
        lab.world.spoil_port("nx-blue")
        await triggers.until(lambda t: (t.kind, t.name, t.quiet) == ("link", "nx-blue", False))
        lab.world.set_link("nx-blue", master="")
        await triggers.until(lambda t: (t.kind, t.name, t.master) == ("link", "nx-blue", None))


async def test_entries_of_a_tunnel_made_later_are_told_too(lab: Lab) -> None:
    with lab.triggers() as triggers:
        await lab.converge(*NETWORK)
        await triggers.until(lambda t: (t.kind, t.name, t.master) == ("link", "nx-blue", "nd-blue"))
        lab.world.delete_neighbour(NEIGHBOUR)
        await triggers.until(
            lambda t: (t.kind, t.verb, t.key) == ("neighbour", "delete", NEIGHBOUR.key)
        )
        lab.world.delete_fdb_half("bridge", FDB)
        await triggers.until(lambda t: (t.kind, t.verb, t.key) == ("fdb", "delete", FDB.key))


def small_network(box: str, mtu: int) -> list[Object]:
    """A network with IPv4 only and one container."""
    network = Network(
        id="net-1",
        name="blue",
        driver="overlay",
        subnets=("10.20.0.0/24",),
        gateways=("10.20.0.1",),
        vni=5000,
    )
    opened = open_objects(network, Opening(addresses=("10.20.0.200/24",), mtu=mtu))
    return [
        *(obj for obj in opened if not isinstance(obj, SetElement)),
        *(
            replace(link, mtu=mtu)
            for link in pair(box, master="nd-blue")
            if isinstance(link, Veth | VethPeer)
        ),
    ]


async def test_the_mtu_may_be_too_small_for_ipv6(lab: Lab) -> None:
    """Such links have no IPv6 in the kernel, which refuses all settings of it."""
    box = await lab.container()
    for mtu in (1000, 1279, 1280, 1450, 576, 1450):
        await lab.converge(*small_network(box, mtu))


async def test_a_link_whose_mtu_was_made_too_small_for_ipv6_gets_all_back(lab: Lab) -> None:
    deaf = deaf_to_routers(ns=HOST, owner="net-1", link="nd-blue", mtu=1450)
    wanted = [*NETWORK, *deaf, Address(owner="net-1", link="nd-blue", address="fd20::1/64")]
    await lab.converge(*wanted)
    lab.world.set_link("nd-blue", mtu=1000)
    [first, *_] = await lab.converge(*wanted)
    assert (first.verb, first.object) == ("change", BLUE)
