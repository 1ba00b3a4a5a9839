"""What stands in the way, what goes with something else, and what is done in spite of it."""

import errno

import pytest
from msgspec.structs import replace

from netd.plan.objects import (
    Address,
    Bridge,
    Ifb,
    Loopback,
    Macvlan,
    Object,
    Redirect,
    Route,
    Veth,
    VethPeer,
)
from netd.plan.operations import Operation
from tests.contract.lab import Lab
from tests.contract.test_lifecycles import BLUE, IFB, pair

RED = replace(BLUE, owner="net-2", name="nd-red", mac="02:42:0a:15:00:01")


def interior(box: str) -> list[Object]:
    """An endpoint as drivers describe it: both families, default routes, lo."""
    return [
        *pair(box, master="nd-blue"),
        Loopback(ns=box),
        Address(ns=box, owner="ep-1", link="eth0", address="10.20.0.2/24"),
        Address(ns=box, owner="ep-1", link="eth0", address="fd20::2/64"),
        Route(ns=box, owner="ep-1", destination="0.0.0.0/0", link="eth0", gateway="10.20.0.1"),
        Route(ns=box, owner="ep-1", destination="::/0", link="eth0", gateway="fd20::1"),
    ]


NETWORK: list[Object] = [
    BLUE,
    Address(owner="net-1", link="nd-blue", address="10.20.0.1/24"),
    Address(owner="net-1", link="nd-blue", address="fd20::1/64"),
]


async def test_a_whole_endpoint_in_one_plan(lab: Lab) -> None:
    box = await lab.container()
    everything = [*NETWORK, *interior(box)]
    plan = await lab.converge(*everything)
    assert len(plan) == len(everything)
    assert await lab.converge(*everything) == []


async def test_two_endpoints_of_one_container(lab: Lab) -> None:
    box = await lab.container()
    second = [
        *pair(box, name="nv2", inner="eth1", master="nd-red"),
        Address(ns=box, owner="ep-2", link="eth1", address="10.21.0.2/24"),
    ]
    await lab.converge(BLUE, RED, *interior(box), *second)
    assert lab.world.links(box) == {"eth0", "eth1"}


async def test_a_foreign_link_on_the_host_is_reported_and_never_touched(lab: Lab) -> None:
    lab.world.add_link("nd-blue")
    seen = await lab.observe(BLUE)
    assert seen.foreign == {BLUE.key}
    assert BLUE.key not in seen.state
    assert await lab.add(BLUE) == [errno.EEXIST]
    assert len(await lab.run("change", replace(BLUE, up=False))) == 1
    for verb in ("delete", "retire"):
        await lab.run(verb, BLUE)
    assert "nd-blue" in lab.world.links()
    assert (await lab.observe(BLUE)).foreign == {BLUE.key}
    facts = await lab.kernel.facts()
    link = facts.link("nd-blue")
    assert link is not None
    assert (link.ours, link.up) == (False, True)


async def test_a_foreign_link_in_a_container_is_reported_and_never_touched(lab: Lab) -> None:
    box = await lab.container()
    assert await lab.add(BLUE) == []
    lab.world.add_link("eth0", box)
    wanted = interior(box)
    peer = wanted[1]
    assert isinstance(peer, VethPeer)
    assert (await lab.observe(*wanted)).foreign == {peer.key}
    # The pair cannot be made, and nothing is put on the link that has its name.
    assert errno.EEXIST in await lab.add(*wanted)
    assert lab.world.links() == {"nd-blue"}
    addresses = [obj for obj in wanted if isinstance(obj, Address)]
    assert await lab.see(*addresses) == {}
    await lab.remove(*wanted)
    assert lab.world.links(box) == {"eth0"}


async def test_an_address_by_hand_is_not_netds(lab: Lab) -> None:
    await lab.converge(*NETWORK)
    lab.world.add_address("nd-blue", "198.51.100.1/24")
    assert await lab.converge(*NETWORK) == []


async def test_a_route_by_hand_on_a_bridge_is_not_netds(lab: Lab) -> None:
    await lab.converge(*NETWORK)
    lab.world.add_route("198.51.100.0/24", "nd-blue")
    assert await lab.converge(*NETWORK) == []


async def test_a_route_by_hand_in_the_place_of_netds(lab: Lab) -> None:
    """It serves if it is as wanted, else it is changed; a detach leaves it alone."""
    box = await lab.container()
    inside = interior(box)
    route = inside[5]
    assert isinstance(route, Route)
    await lab.converge(BLUE, *inside)
    lab.world.delete_route("0.0.0.0/0", "eth0", box)
    lab.world.add_route("0.0.0.0/0", "eth0", box, gateway="10.20.0.1")
    assert await lab.converge(BLUE, *inside) == []
    assert await lab.add(route) == []
    assert await lab.run("delete", route) == []
    assert await lab.see(route) != {}

    lab.world.delete_route("0.0.0.0/0", "eth0", box)
    lab.world.add_route("0.0.0.0/0", "eth0", box, gateway="10.20.0.9")
    plan = await lab.converge(BLUE, *inside)
    assert [(op.verb, op.object) for op in plan] == [("change", route)]
    assert await lab.run("delete", route) == []
    assert await lab.see(route) == {}


async def test_a_link_of_the_wrong_kind_is_made_anew_with_all_on_it(lab: Lab) -> None:
    wrong = Ifb(owner="net-1", name="nd-blue", mtu=1500)
    await lab.converge(wrong)
    plan = await lab.converge(*NETWORK)
    assert [op.verb for op in plan] == ["delete", "add", "add", "add"]
    await lab.converge(wrong)


async def test_a_redirect_whose_target_is_made_anew(lab: Lab) -> None:
    box = await lab.container()
    shaped = [*pair(box), Redirect(owner="ep-1", link="nv1", target="ni1")]
    await lab.converge(*shaped, IFB)
    lab.world.delete_link("ni1")
    await lab.converge(*shaped, IFB)
    await lab.converge(Bridge(owner="net-1", name="ni1", mac=BLUE.mac, mtu=1500), *shaped)
    await lab.converge(*shaped, IFB)


async def test_a_bridge_takes_its_addresses_along_and_leaves_its_ports(lab: Lab) -> None:
    box = await lab.container()
    everything = [*NETWORK, *interior(box)]
    await lab.converge(*everything)
    lab.world.delete_link("nd-blue")
    seen = await lab.see(*everything)
    assert not {obj.key for obj in NETWORK} & seen.keys()
    port = seen["", "link", "nv1"]
    assert isinstance(port, Veth)
    assert port.master is None
    await lab.converge(*everything)


@pytest.mark.parametrize("end", ["inside", "outside"])
async def test_either_end_takes_the_pair_along(lab: Lab, end: str) -> None:
    box = await lab.container()
    everything = [*NETWORK, *interior(box)]
    await lab.converge(*everything)
    if end == "inside":
        lab.world.delete_link("eth0", box)
    else:
        lab.world.delete_link("nv1")
    lo = Loopback(ns=box)
    assert (await lab.see(*everything)).keys() == {obj.key for obj in [*NETWORK, lo]}
    await lab.converge(*everything)


async def test_another_pair_takes_the_place_of_one(lab: Lab) -> None:
    """A container was detached and attached again while nobody looked."""
    box = await lab.container()
    await lab.converge(BLUE, *interior(box))
    veth = interior(box)[0]
    assert isinstance(veth, Veth)
    await lab.converge(BLUE, replace(veth, name="nv2"), *interior(box)[1:])
    assert lab.world.links() == {"nd-blue", "nv2"}


async def test_a_pair_whose_inner_end_was_renamed_is_made_anew(lab: Lab) -> None:
    box = await lab.container()
    everything = [*NETWORK, *interior(box)]
    await lab.converge(*everything)
    lab.world.rename_link("eth0", "mine", box)
    await lab.converge(*everything)
    assert lab.world.links(box) == {"eth0"}


@pytest.mark.parametrize("change", [{"parent": "nd-red"}, {"mode": "private"}])
async def test_a_macvlan_made_anew_keeps_what_is_on_it(lab: Lab, change: dict[str, str]) -> None:
    shim = Macvlan(
        owner="net-1", name="ns-wan", parent="nd-blue", mode="bridge", mac="02:42:0a:14:00:77"
    )
    on_it = [
        Address(owner="net-1", link="ns-wan", address="10.30.0.1/24"),
        Route(owner="net-1", destination="10.31.0.0/24", link="ns-wan"),
    ]
    await lab.converge(BLUE, RED, shim, *on_it)
    await lab.converge(BLUE, RED, replace(shim, **change), *on_it)


async def test_a_link_inside_that_is_down_has_lost_routes_and_ipv6(lab: Lab) -> None:
    box = await lab.container()
    everything = [*NETWORK, *interior(box)]
    await lab.converge(*everything)
    lab.world.set_link("eth0", box, up=False)
    seen = await lab.see(*everything)
    lost = {obj.key[1:] for obj in everything if obj.key not in seen}
    assert lost == {
        ("address", "eth0", "fd20::2/64"),
        ("route", "254", "0.0.0.0/0", "eth0", ""),
        ("route", "254", "::/0", "eth0", ""),
    }
    await lab.converge(*everything)


async def test_the_last_ipv4_address_takes_ipv4_routes_along(lab: Lab) -> None:
    box = await lab.container()
    everything = [*NETWORK, *interior(box)]
    await lab.converge(*everything)
    lab.world.delete_address("eth0", "10.20.0.2/24", box)
    lab.world.delete_address("eth0", "fd20::2/64", box)
    lost = {obj.key[1:] for obj in everything} - {key[1:] for key in await lab.see(*everything)}
    assert lost == {
        ("address", "eth0", "10.20.0.2/24"),
        ("address", "eth0", "fd20::2/64"),
        ("route", "254", "0.0.0.0/0", "eth0", ""),
    }
    await lab.converge(*everything)


async def test_another_address_keeps_them(lab: Lab) -> None:
    box = await lab.container()
    everything = [*NETWORK, *interior(box)]
    await lab.converge(*everything)
    lab.world.add_address("eth0", "198.51.100.1/24", box)
    lab.world.delete_address("eth0", "10.20.0.2/24", box)
    lost = {obj.key for obj in everything} - (await lab.see(*everything)).keys()
    assert [key[1] for key in lost] == ["address"]
    await lab.converge(*everything)


async def test_a_route_goes_with_its_source(lab: Lab) -> None:
    second = Address(owner="net-1", link="nd-blue", address="10.22.0.1/24")
    route = Route(owner="net-1", destination="10.99.0.0/16", link="nd-blue", source="10.22.0.1")
    await lab.converge(*NETWORK, second, route)
    lab.world.delete_address("nd-blue", second.address)
    assert await lab.see(second, route) == {}
    await lab.converge(*NETWORK, second, route)


@pytest.mark.parametrize(
    ("destination", "gateway", "expected"),
    [
        ("10.99.0.0/16", "10.77.0.1", errno.ENETUNREACH),
        ("fd99::/64", "fd77::1", errno.EHOSTUNREACH),
    ],
)
async def test_a_gateway_must_be_reachable(
    lab: Lab, destination: str, gateway: str, expected: int
) -> None:
    assert await lab.add(*NETWORK) == []
    route = Route(owner="net-1", destination=destination, link="nd-blue", gateway=gateway)
    assert await lab.add(route) == [expected]


async def test_drift_by_hand_is_put_right(lab: Lab) -> None:
    box = await lab.container()
    everything = [*NETWORK, RED, *interior(box)]
    await lab.converge(*everything)
    lab.world.set_link("nv1", master="")
    lab.world.set_link("nd-red", up=False)
    lab.world.delete_route("0.0.0.0/0", "eth0", box)
    lab.world.delete_address("nd-blue", "fd20::1/64")
    plan = await lab.converge(*everything)
    assert sorted((op.verb, *op.object.key[1:]) for op in plan) == [
        ("add", "address", "nd-blue", "fd20::1/64"),
        ("add", "route", "254", "0.0.0.0/0", "eth0", ""),
        ("change", "link", "nd-red"),
        ("change", "link", "nv1"),
    ]
    lab.world.set_link("nv1", master="nd-red")
    assert [op.verb for op in await lab.converge(*everything)] == ["change"]


async def test_hairpin_comes_back_with_the_bridge(lab: Lab) -> None:
    veth, *inside = interior(await lab.container())
    assert isinstance(veth, Veth)
    everything = [*NETWORK, replace(veth, hairpin=True), *inside]
    await lab.converge(*everything)
    lab.world.set_link("nv1", master="")
    await lab.converge(*everything)
    lab.world.delete_link("nd-blue")
    await lab.converge(*everything)
    assert await lab.converge(*everything) == []


async def test_a_failure_in_the_middle_leaves_the_rest_done(lab: Lab) -> None:
    box = await lab.container()
    bad = Address(owner="net-1", link="nothere", address="10.23.0.1/24")
    plan = [
        Operation(verb="add", object=obj, reason="test")
        for obj in [BLUE, bad, *NETWORK[1:], *interior(box)]
    ]
    failures = await lab.kernel.apply(plan, lab.boxes)
    assert [(failure.operation.object, failure.errno) for failure in failures] == [
        (bad, errno.ENODEV)
    ]
    assert await lab.converge(*NETWORK, *interior(box)) == []


async def test_retired_links_make_room_at_once_and_go_together(lab: Lab) -> None:
    box = await lab.container()
    first, second = interior(box), pair(box, name="nv2", inner="eth1", master="nd-blue")
    await lab.converge(*NETWORK, *first, *second)
    assert await lab.run("retire", first[0], second[0]) == []
    seen = await lab.observe(*NETWORK, *first, *second)
    assert seen.retired == 2
    assert {first[0].key, second[0].key}.isdisjoint(seen.state)
    assert await lab.run("retire", first[0]) == []

    # The same names, before they are gone.
    await lab.converge(*NETWORK, *first)
    assert await lab.kernel.reap() in (1, 2)
    assert await lab.kernel.reap() == 0
    assert (await lab.observe()).retired == 0
    assert lab.world.links() == {"nd-blue", "nv1"}
    assert lab.world.links(box) == {"eth0"}
    assert await lab.converge(*NETWORK, *first) == []


async def test_a_bridge_has_1023_ports(lab: Lab) -> None:
    box = await lab.container()
    ports = [
        pair(box, name=f"p{number}", inner=f"q{number}", master="nd-blue")[0]
        for number in range(1024)
    ]
    assert await lab.add(BLUE, *ports[:1023]) == []
    assert await lab.add(ports[1023]) == [errno.EXFULL]
    assert "p1023" not in lab.world.links()
    assert await lab.run("retire", *ports[:1023]) == []
    assert await lab.kernel.reap() == 1023
    assert lab.world.links() == {"nd-blue"}
