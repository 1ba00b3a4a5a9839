"""Which way packets go: as routes, addresses and rules say, in a container and on the host."""

import pytest

from netd.plan.facts import NextHop
from netd.plan.objects import Address, Bridge, Route, Rule, Veth, VethPeer
from tests.contract.lab import Lab

BRIDGE = Bridge(owner="net", name="nd-blue", mac="02:00:00:00:00:01", mtu=1500)
GATEWAYS = [
    Address(owner="net", link="nd-blue", address="10.7.0.1/24"),
    Address(owner="net", link="nd-blue", address="fd07::1/64"),
]


async def container(lab: Lab, ifname: str, table: int = 254) -> str:
    """A container on the bridge, with its default route in that table."""
    key = await lab.container()
    veth = Veth(
        owner="ep",
        name="nvaaaa",
        mtu=1500,
        master="nd-blue",
        peer_ns=key,
        peer_name=ifname,
        peer_mac="02:00:00:00:00:02",
    )
    peer = VethPeer(ns=key, owner="ep", name=ifname, mtu=1500, mac="02:00:00:00:00:02")
    assert not await lab.add(
        BRIDGE,
        *GATEWAYS,
        veth,
        peer,
        Address(ns=key, owner="ep", link=ifname, address="10.7.0.2/24"),
        Address(ns=key, owner="ep", link=ifname, address="fd07::2/64"),
        Route(
            ns=key,
            owner="ep",
            destination="0.0.0.0/0",
            link=ifname,
            gateway="10.7.0.1",
            table=table,
        ),
        Route(ns=key, owner="ep", destination="::/0", link=ifname, gateway="fd07::1", table=table),
    )
    return key


@pytest.mark.parametrize(
    ("target", "way"),
    [
        ("10.7.0.9", NextHop(link="eth0")),
        ("198.51.100.7", NextHop(link="eth0", gateway="10.7.0.1")),
        ("10.7.0.2", NextHop(link="lo", local=True)),
        ("fd07::9", NextHop(link="eth0")),
        ("2001:db8::7", NextHop(link="eth0", gateway="fd07::1")),
    ],
)
async def test_the_way_from_a_container(lab: Lab, target: str, way: NextHop) -> None:
    key = await container(lab, "eth0")
    assert await lab.kernel.next_hop(lab.boxes[key], target) == way


@pytest.mark.parametrize("source", ["10.7.0.2", "fd07::2"])
async def test_rules_look_at_the_source(lab: Lab, source: str) -> None:
    key = await container(lab, "eth1", table=77)
    bits = 128 if ":" in source else 32
    target = "2001:db8::7" if ":" in source else "198.51.100.7"
    assert await lab.kernel.next_hop(lab.boxes[key], target, source) is None
    rule = Rule(ns=key, owner="ep", source=f"{source}/{bits}", table=77, priority=110, link="eth1")
    assert not await lab.add(rule)
    assert await lab.kernel.next_hop(lab.boxes[key], target, source) == NextHop(
        link="eth1", gateway="fd07::1" if ":" in source else "10.7.0.1"
    )
    assert await lab.kernel.next_hop(lab.boxes[key], target) is None


@pytest.mark.parametrize("version", [4, 6])
async def test_a_rule_after_the_kernels_own_is_for_what_the_main_table_does_not_have(
    lab: Lab, version: int
) -> None:
    key = await container(lab, "eth1", table=77)
    target = "2001:db8::7" if version == 6 else "198.51.100.7"
    rule = Rule(
        ns=key,
        owner="ep",
        source="::/0" if version == 6 else "0.0.0.0/0",
        table=77,
        priority=32_800,
        link="eth1",
    )
    assert not await lab.add(rule)
    gateway = "fd07::1" if version == 6 else "10.7.0.1"
    way = NextHop(link="eth1", gateway=gateway)
    assert await lab.kernel.next_hop(lab.boxes[key], target) == way
    near = "fd07::9" if version == 6 else "10.7.0.9"
    assert await lab.kernel.next_hop(lab.boxes[key], near) == NextHop(link="eth1")


async def test_the_way_from_the_host(lab: Lab) -> None:
    await container(lab, "eth0")
    assert await lab.kernel.next_hop(None, "10.7.0.2") == NextHop(link="nd-blue")
    assert await lab.kernel.next_hop(None, "10.7.0.1") == NextHop(link="lo", local=True)
    lab.world.set_link("nd-blue", up=False)
    way = await lab.kernel.next_hop(None, "10.7.0.2")
    assert way is None or way.link != "nd-blue"


async def test_a_container_that_has_ended_sends_nowhere(lab: Lab) -> None:
    key = await lab.container()
    lab.world.end(lab.boxes[key])
    assert await lab.kernel.next_hop(lab.boxes[key], "10.7.0.9") is None
