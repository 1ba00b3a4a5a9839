"""Networks: created, found again, deleted, and nothing left when that fails."""

import asyncio
import errno
import ipaddress
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from netd.model.errors import (
    Conflict,
    Exhausted,
    Invalid,
    KernelFailure,
    NotFound,
    Unavailable,
)
from netd.model.names import bridge_name
from netd.model.network import NetworkSpec
from netd.plan.addresses import Pool
from netd.plan.facts import AddressFact, LinkFact, RouteFact
from tests.unit.engine_fixture import DISK_FULL, FACTS, Gate, Host

BLUE = NetworkSpec(name="blue", driver="bridge")

# Small pools, so that what is taken decides what is chosen.
SMALL = (Pool("10.99.0.0/22", 24),)


async def test_a_bridge_network_is_filled_in(host: Host) -> None:
    network, created = await host.engine.create_network(BLUE)

    assert created
    version4, version6 = map(ipaddress.ip_network, network.subnets)
    assert version4.subnet_of(ipaddress.ip_network("10.192.0.0/11"))  # type: ignore[arg-type]
    assert version6.is_private
    assert version6.prefixlen == 64
    assert network.gateways == tuple(str(net.network_address + 1) for net in (version4, version6))
    assert network.mtu == 1500
    assert "link nd-blue type bridge" in host.text()
    assert f"address {network.gateways[0]}/20 dev nd-blue" in host.text()
    await host.check()


async def test_creating_it_again_finds_it(host: Host) -> None:
    first, _ = await host.engine.create_network(BLUE)
    before = list(host.kernel.operations)

    again, created = await host.engine.create_network(BLUE)

    assert (again, created) == (first, False)
    assert host.kernel.operations == before


@pytest.mark.parametrize(
    "spelling",
    [
        {"subnets": ("10.20.0.0/24", "fd20::/64"), "gateways": ("10.20.0.9",)},
        {"subnets": ("10.20.0.0/255.255.255.0", "FD20:0::/64"), "gateways": ("10.20.0.9/24",)},
        {"subnets": ("10.20.0.0/24", "fd20::/64"), "gateways": ("fd20::0001", "10.20.0.9")},
        {},
    ],
)
async def test_the_same_network_in_other_words_is_the_same(
    host: Host, spelling: dict[str, tuple[str, ...]]
) -> None:
    first = await host.network(
        "blue", subnets=("10.20.0.0/24", "fd20::/64"), gateways=("10.20.0.9",)
    )

    again, created = await host.engine.create_network(
        NetworkSpec(name="blue", driver="bridge", **spelling)  # type: ignore[arg-type]
    )

    assert (again, created) == (first, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("driver", "none"),
        ("internal", True),
        ("isolated", False),
        ("mtu", 1400),
        ("subnets", ("10.21.0.0/24",)),
        ("gateways", ("10.192.0.7",)),
        ("labels", {"a": "b"}),
        ("options", {"masquerade": False}),
    ],
)
async def test_another_spec_under_the_name_is_a_conflict(
    host: Host, field: str, value: object
) -> None:
    network = await host.network("blue")

    with pytest.raises(Conflict) as caught:
        await host.engine.create_network(replace(BLUE, **{field: value}))

    assert caught.value.field == field
    assert host.engine.networks() == (network,)


async def test_two_at_once_make_one(host: Host) -> None:
    results = await asyncio.gather(*(host.engine.create_network(BLUE) for _ in range(5)))

    assert sorted(created for _, created in results) == [False] * 4 + [True]
    assert len({network.id for network, _ in results}) == 1


async def test_chosen_subnets_keep_clear_of_everything(new_host: Callable[[], Host]) -> None:
    host = new_host()
    host.settings = replace(host.settings, ipv4_pools=SMALL)
    host.boot(
        replace(
            FACTS,
            links=(*FACTS.links, LinkFact(index=7, name="wg0", kind="wireguard")),
            routes=(
                *FACTS.routes,
                # A VPN's route in a table of policy routing, and the halves of the default.
                RouteFact(destination="10.99.0.0/24", link="wg0", table=51820),
                RouteFact(destination="0.0.0.0/1", link="wg0"),
                RouteFact(destination="128.0.0.0/1", link="wg0"),
            ),
            addresses=(*FACTS.addresses, AddressFact(link="wg0", address="10.99.1.7/32")),
            nameservers=("10.99.2.53",),
        )
    )
    await host.start()

    assert (await host.network("blue")).subnets[0] == "10.99.3.0/24"
    with pytest.raises(Exhausted, match=r"10\.99\.0\.0/22 in /24"):
        await host.network("red")
    assert len(host.engine.networks()) == 1


@pytest.mark.parametrize(
    ("subnet", "what"),
    [
        ("192.0.2.128/25", "192.0.2.10/24 of eth0"),
        ("192.0.0.0/16", "192.0.2.10/24 of eth0"),
        ("10.5.6.0/24", "route 10.5.0.0/16 dev wg0"),
        ("10.7.0.0/16", "the name server 10.7.0.53"),
        ("10.30.0.0/25", "network 'red'"),
        ("fd30::/48", "network 'red'"),
    ],
)
async def test_an_overlap_is_a_conflict_that_names_the_other(
    new_host: Callable[[], Host], subnet: str, what: str
) -> None:
    host = new_host()
    host.boot(
        replace(
            FACTS,
            links=(*FACTS.links, LinkFact(index=7, name="wg0")),
            routes=(
                *FACTS.routes,
                RouteFact(destination="10.5.0.0/16", link="wg0", table=200),
            ),
            nameservers=("10.7.0.53",),
        )
    )
    await host.start()
    await host.network("red", subnets=("10.30.0.0/24", "fd30::/64"))
    before = host.text()

    with pytest.raises(Conflict, match=what.replace(".", r"\.")) as caught:
        await host.network("blue", subnets=(subnet,))

    assert caught.value.field == "subnets[0]"
    assert host.text() == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "Blue"}, "name"),
        ({"name": "../etc"}, "name"),
        ({"subnets": ("10.20.0.1/24",)}, "subnets[0]"),
        ({"subnets": ("10.20.0.0/24", "10.21.0.0/24")}, "subnets[1]"),
        ({"subnets": ("224.1.0.0/24",)}, "subnets[0]"),
        ({"subnets": ("0.0.0.0/0",)}, "subnets[0]"),
        ({"subnets": ("10.20.0.0/31",)}, "subnets[0]"),
        ({"subnets": ("nonsense",)}, "subnets[0]"),
        ({"subnets": ("10.20.0.0/24",), "gateways": ("10.21.0.1",)}, "gateways[0]"),
        ({"subnets": ("10.20.0.0/24",), "gateways": ("10.20.0.255",)}, "gateways[0]"),
        ({"mtu": 1279}, "mtu"),
        ({"mtu": 70000}, "mtu"),
        ({"vni": 7}, "vni"),
        ({"parent": "eth0"}, "parent"),
        ({"encrypted": True}, "encrypted"),
        ({"options": {"masquerade": "yes"}}, "options.masquerade"),
        ({"options": {"unknown": 1}}, "options.unknown"),
        ({"driver": "host", "subnets": ("10.20.0.0/24",)}, "subnets"),
        ({"driver": "none", "mtu": 1500}, "mtu"),
        ({"driver": "macvlan", "parent": "eth7"}, "parent"),
        ({"driver": "macvlan", "parent": "a/b"}, "parent"),
        ({"driver": "ipvlan", "options": {"mode": "bridge"}}, "options.mode"),
    ],
)
async def test_a_bad_spec_names_its_field_and_leaves_nothing(
    host: Host, fields: dict[str, object], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await host.engine.create_network(replace(BLUE, **fields))

    assert caught.value.field == field
    assert host.engine.networks() == ()
    assert host.kernel.text() == ""


async def test_a_network_on_a_parent_may_have_a_part_of_its_subnet(host: Host) -> None:
    with pytest.raises(Invalid, match="has other users") as caught:
        await host.network("lan", "macvlan", subnets=("192.0.2.0/24",))
    assert caught.value.field == "options.range"
    network = await host.network(
        "lan", "macvlan", subnets=("192.0.2.0/24",), options={"range": "192.0.2.128/26"}
    )
    assert (network.parent, network.gateways) == ("eth0", ())

    with pytest.raises(Conflict, match="macvlan network 'lan'"):
        await host.network("vlan", "ipvlan", parent="eth0", subnets=("198.51.100.0/24",))


async def test_a_foreign_link_of_the_bridges_name_is_left_alone(host: Host) -> None:
    host.kernel.by_hand.add_link("nd-blue")

    with pytest.raises(Conflict, match="'nd-blue' that is not netd's"):
        await host.engine.create_network(BLUE)

    assert host.engine.networks() == ()
    assert host.kernel.text() == ""
    assert host.kernel.operations == []


async def test_names_that_would_share_a_bridge_are_a_conflict(host: Host) -> None:
    await host.network("a-network-with-a-long-name")
    short = bridge_name("a-network-with-a-long-name").removeprefix("nd-")
    before = host.text()

    with pytest.raises(Conflict, match="choose another name"):
        await host.network(short)

    assert host.text() == before


# Failures leave nothing.


async def test_a_full_disk_leaves_nothing(host: Host) -> None:
    host.store.full = True

    with pytest.raises(Unavailable, match=DISK_FULL):
        await host.engine.create_network(BLUE)

    assert host.engine.networks() == ()
    assert host.text() == ""
    host.store.full = False
    _, created = await host.engine.create_network(BLUE)
    assert created
    await host.check()


async def test_a_disk_that_fills_up_half_way_leaves_nothing(host: Host) -> None:
    """The first commit, of what the sysctls were, succeeds; that of the network does not."""
    with host.kernel.hold("apply") as gate:
        creating = asyncio.create_task(host.engine.create_network(BLUE))
        await gate.reached.wait()
        host.store.full = True
        gate.opened.set()
        with pytest.raises(Unavailable, match=DISK_FULL):
            await creating

    assert host.engine.networks() == ()
    assert host.text() == ""
    host.store.full = False
    await host.engine.create_network(BLUE)
    await host.check()  # the guard against forwarding for others is still there


async def test_each_operation_that_the_kernel_refuses_leaves_nothing(
    new_host: Callable[[], Host],
) -> None:
    spec = replace(BLUE, subnets=("10.20.0.0/24", "fd20::/64"))
    for nth in range(1, 100):
        host = new_host()
        await host.start()
        host.kernel.faults.fail(nth, errno.ENOMEM)
        if not await _refused(host, spec):
            break
        assert host.engine.networks() == ()
        assert host.text() == "", nth
        _, created = await host.engine.create_network(spec)
        assert created
        await host.check()
        await host.stop()
    assert nth > 10


async def _refused(host: Host, spec: NetworkSpec) -> bool:
    try:
        await host.engine.create_network(spec)
    except KernelFailure:
        return True
    return False


async def test_a_kernel_that_is_down_leaves_nothing(host: Host) -> None:
    host.kernel.down = "no netlink"
    with pytest.raises(KernelFailure, match="no netlink"):
        await host.engine.create_network(BLUE)

    host.kernel.down = ""
    assert host.engine.networks() == ()
    await host.check()
    assert host.text() == ""


async def test_a_network_is_not_to_be_had_before_it_is_durable(host: Host) -> None:
    host.store.gate = gate = Gate()
    creating = asyncio.create_task(host.engine.create_network(BLUE))
    await gate.reached.wait()

    assert host.engine.networks() == ()
    with pytest.raises(NotFound):
        await host.attach("blue", "web")

    gate.opened.set()
    await creating
    await host.attach("blue", "web")


# Deletion.


async def test_a_deleted_network_leaves_nothing(host: Host) -> None:
    network = await host.network("blue")
    await host.engine.delete_network("blue")

    assert host.text() == ""
    with pytest.raises(NotFound):
        host.engine.network("blue")
    await host.engine.delete_network("blue")
    await host.engine.delete_network(network.id)
    assert (await host.happened("network.deleted")).object == network.id
    await host.check()


async def test_subnets_of_a_network_that_comes_again_are_kept_for_it(host: Host) -> None:
    first = await host.network("first")
    await host.engine.delete_network("first", keep_subnets=True)
    await host.restart()
    second = await host.network("second")
    assert not set(first.subnets) & set(second.subnets)
    assert not set(first.subnets) & {
        await host.engine.free_subnet(version, ()) for version in (4, 6)
    }
    again = await host.network("first", subnets=first.subnets)
    assert again.subnets == first.subnets
    await host.engine.delete_network("second")
    assert (await host.network("third")).subnets == second.subnets


async def test_deleting_one_leaves_the_other(host: Host) -> None:
    await host.network("blue")
    await host.network("red")
    await host.engine.delete_network("blue")
    assert "nd-blue" not in host.text()
    assert "nd-red" in host.text()
    await host.check()


async def test_a_network_in_use_names_its_users(host: Host) -> None:
    await host.network("blue")
    users = [await host.attach("blue", f"c{number}") for number in range(7)]
    before = host.text()

    with pytest.raises(Conflict) as caught:
        await host.engine.delete_network("blue")

    assert sum(user.id in caught.value.detail for user in users) == 5
    assert "and 2 more" in caught.value.detail
    assert host.text() == before


async def test_an_attach_in_flight_is_a_use(host: Host) -> None:
    await host.network("blue")
    with host.kernel.hold("apply") as gate:
        attaching = asyncio.create_task(host.attach("blue", "web"))
        await gate.reached.wait()
        with pytest.raises(Conflict, match="web"):
            await host.engine.delete_network("blue")
        gate.opened.set()
        endpoint = await attaching

    assert host.engine.endpoint(endpoint.id) == endpoint
    await host.check()


async def test_an_attach_that_comes_too_late_finds_no_network(host: Host) -> None:
    await host.network("blue")
    with host.kernel.hold("enter") as gate:
        attaching = asyncio.create_task(host.attach("blue", "web"))
        await gate.reached.wait()
        await host.engine.delete_network("blue")
        gate.opened.set()
        with pytest.raises(NotFound):
            await attaching

    assert host.text() == ""
    await host.check()


async def test_a_detach_in_flight_is_a_use_until_it_is_durable(host: Host) -> None:
    await host.network("blue")
    endpoint = await host.attach("blue", "web")
    host.store.gate = gate = Gate()
    detaching = asyncio.create_task(host.engine.detach(endpoint.id))
    await gate.reached.wait()

    with pytest.raises(Conflict, match=endpoint.id):
        await host.engine.delete_network("blue")

    gate.opened.set()
    await detaching
    await host.engine.delete_network("blue")
    assert host.text() == ""


async def test_a_full_disk_keeps_the_network(host: Host) -> None:
    network = await host.network("blue")
    before = host.text()
    host.store.full = True
    with pytest.raises(Unavailable, match=DISK_FULL):
        await host.engine.delete_network("blue")

    host.store.full = False
    assert host.engine.network("blue") == network
    assert host.text() == before
    await host.attach("blue", "web")
    await host.check()


async def test_what_the_kernel_keeps_of_a_deleted_network_goes_at_the_next_pass(
    host: Host,
) -> None:
    await host.network("blue")
    host.kernel.faults.refuse(lambda text: "type bridge" in text, errno.EBUSY)
    await host.engine.delete_network("blue")
    assert host.engine.networks() == ()
    assert "nd-blue" in host.text()

    host.kernel.faults.clear()
    await host.engine.reconcile()
    assert host.text() == ""


async def test_the_id_of_a_network_names_no_other(host: Host) -> None:
    blue = await host.network("blue")
    with pytest.raises(Invalid, match="are an id"):
        await host.network(blue.id)
    assert host.engine.networks() == (blue,)


async def test_networks_survive_a_restart(host: Host) -> None:
    networks = [await host.network("blue"), await host.network("lan", "macvlan")]
    before = host.kernel.text()
    operations = list(host.kernel.operations)

    await host.restart()

    assert list(host.engine.networks()) == networks
    assert host.kernel.text() == before
    assert host.kernel.operations == operations


async def test_the_guard_against_forwarding_for_others_survives_restarts(host: Host) -> None:
    """It depends on what the sysctl was before netd set it."""
    await host.network("blue")
    digest = [line for line in host.text().splitlines() if "digest" in line]
    await host.restart()
    await host.network("red")
    assert [line for line in host.text().splitlines() if "digest" in line] == digest
    await host.engine.delete_network("blue")
    await host.engine.delete_network("red")
    await host.network("green")
    assert [line for line in host.text().splitlines() if "digest" in line] == digest


async def test_no_guard_where_the_host_forwarded_before(host: Host) -> None:
    await host.network("blue")
    guarded = [line for line in host.text().splitlines() if "digest" in line]
    await host.reboot(sysctls={"net/ipv4/ip_forward": "1"})
    digest = [line for line in host.text().splitlines() if "digest" in line]
    assert len(guarded) == len(digest) == 1
    assert digest != guarded
