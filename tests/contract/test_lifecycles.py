"""Every kind of object: made, made again, seen, changed, removed, removed again."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from netd.plan.firewall import ruleset
from netd.plan.objects import (
    Address,
    Bridge,
    Ifb,
    Loopback,
    Macvlan,
    Object,
    Redirect,
    Route,
    Rule,
    Ruleset,
    SetElement,
    Shaper,
    Sysctl,
    Veth,
    VethPeer,
)
from netd.plan.tunnels import ALL_HOSTS, FdbEntry, Neighbour, Vxlan
from netd.plan.virtual_rules import VirtualPools
from tests.contract.lab import Lab
from tests.netns.conftest import HAS_SLOTS

POOLS = VirtualPools("10.191.0.0/16", "fd6e:6574:6400::/112")
MAC = "02:42:0a:14:00:01"
OTHER_MAC = "02:42:0a:14:00:99"
BLUE = Bridge(owner="net-1", name="nd-blue", mac=MAC, mtu=1500)
IFB = Ifb(owner="ep-1", name="ni1", mtu=1500)


def pair(
    box: str, *, name: str = "nv1", inner: str = "eth0", master: str | None = None
) -> list[Object]:
    """A veth pair into a container, up at both ends."""
    mac = "02:42:0a:14:00:02"
    return [
        Veth(
            owner="ep-1",
            name=name,
            mtu=1500,
            master=master,
            peer_ns=box,
            peer_name=inner,
            peer_mac=mac,
        ),
        VethPeer(ns=box, owner="ep-1", name=inner, mac=mac, mtu=1500),
    ]


Case = tuple[list[Object], Object, Object | None]
"""What it rests on; the object; how it may be changed, None when nothing of it can be."""


def bridge(_box: str) -> Case:
    return [], BLUE, replace(BLUE, mtu=1400, mac=OTHER_MAC, owner="net-2", route_localnet=True)


def veth(box: str) -> Case:
    rests_on: list[Object] = [BLUE, replace(BLUE, name="nd-red", mac=OTHER_MAC)]
    made = pair(box, master="nd-blue")[0]
    assert isinstance(made, Veth)
    return rests_on, made, replace(made, master="nd-red", hairpin=True, owner="ep-2")


def handed_over(_box: str) -> Case:
    """A pair whose other end stays on the host, for a runtime to move."""
    made = pair("", inner="np1", master="nd-blue")[0]
    return [BLUE], made, replace(made, owner="ep-2")


def ifb(_box: str) -> Case:
    return [], IFB, replace(IFB, mtu=1400)


def shim(_box: str) -> Case:
    made = Macvlan(owner="net-1", name="ns-wan", parent="nd-blue", mode="bridge", mac=OTHER_MAC)
    return [BLUE], made, replace(made, mode="private", mac="02:42:0a:14:00:98")


def macvlan(box: str) -> Case:
    made = Macvlan(
        ns=box,
        owner="ep-1",
        name="eth0",
        parent="nd-blue",
        mode="bridge",
        mac=OTHER_MAC,
        mtu=1500,
    )
    return [BLUE], made, replace(made, mtu=1400)


def address4(_box: str) -> Case:
    return [BLUE], Address(owner="net-1", link="nd-blue", address="10.20.0.1/24"), None


def address6(_box: str) -> Case:
    made = Address(owner="net-1", link="nd-blue", address="fd20::1/64")
    return [BLUE], made, replace(made, preferred=False)


def inner_address(box: str) -> Case:
    address = Address(ns=box, owner="ep-1", link="eth0", address="10.20.0.2/24")
    return pair(box), address, None


def route4(box: str) -> Case:
    rests_on = [
        *pair(box),
        Address(ns=box, owner="ep-1", link="eth0", address="10.20.0.2/24"),
    ]
    made = Route(ns=box, owner="ep-1", destination="0.0.0.0/0", link="eth0", gateway="10.20.0.1")
    return rests_on, made, replace(made, gateway="10.20.0.9", source="10.20.0.2")


def route6(box: str) -> Case:
    rests_on = [*pair(box), Address(ns=box, owner="ep-1", link="eth0", address="fd20::2/64")]
    made = Route(ns=box, owner="ep-1", destination="::/0", link="eth0", gateway="fd20::1")
    return rests_on, made, replace(made, gateway="fd20::9", source="fd20::2")


def host_route(_box: str) -> Case:
    made = Route(owner="net-1", destination="10.21.0.0/24", link="nd-blue")
    return [BLUE], made, None


def route_of_a_table(_box: str) -> Case:
    rests_on = [BLUE, Address(owner="net-1", link="nd-blue", address="10.20.0.1/24")]
    made = Route(
        owner="net-1",
        destination="0.0.0.0/0",
        link="nd-blue",
        gateway="10.20.0.2",
        table=0x4E001234,
    )
    return rests_on, made, replace(made, gateway="10.20.0.3")


def rule4(_box: str) -> Case:
    made = Rule(owner="ep-1", source="10.20.0.2/32", table=0x4E001234, priority=110, link="nd-blue")
    return [BLUE], made, replace(made, priority=120)


def rule6(box: str) -> Case:
    made = Rule(
        ns=box, owner="ep-1", source="fd20::2/128", table=0x4E001234, priority=110, link="eth0"
    )
    return pair(box), made, replace(made, priority=120)


def rule_for_all4(box: str) -> Case:
    made = Rule(
        ns=box, owner="ep-1", source="0.0.0.0/0", table=0x4E001234, priority=32_800, link="eth0"
    )
    return pair(box), made, replace(made, priority=32_801)


def rule_for_all6(box: str) -> Case:
    rests_on, made, _ = rule_for_all4(box)
    made = replace(made, source="::/0")
    return rests_on, made, replace(made, priority=32_801)


def shaper(box: str) -> Case:
    made = Shaper(
        owner="ep-1", link="nv1", rate_bps=8_000_000, burst_bytes=20_000, latency_us=50_000
    )
    return pair(box), made, replace(made, rate_bps=16_000_000, burst_bytes=40_000)


def redirect(box: str) -> Case:
    rests_on = [*pair(box), IFB, replace(IFB, name="ni2")]
    made = Redirect(owner="ep-1", link="nv1", target="ni1")
    return rests_on, made, replace(made, target="ni2")


def table(_box: str) -> Case:
    return [], ruleset(forward_guard=False), ruleset(forward_guard=True)


def member(_box: str) -> Case:
    element = SetElement(owner="net-1", set_name="bridges", element=("nd-blue",))
    return [ruleset(forward_guard=False)], element, None


def mapping(_box: str) -> Case:
    element = SetElement(
        owner="ep-1",
        set_name="ports6",
        element=("2001:db8::1", "tcp", "8080"),
        value=("fd20::2", "80"),
    )
    return [ruleset(forward_guard=False)], element, replace(element, value=("fd20::3", "81"))


def slot(_box: str) -> Case:
    if not HAS_SLOTS:
        pytest.skip("libnftables here is older than 1.0.3")
    element = SetElement(
        owner="virtual-my_web.site",
        set_name="spread3_4",
        element=("10.191.0.9", "udp", "53", "2"),
        value=("10.20.0.2", "5353"),
    )
    return (
        [ruleset(forward_guard=False, virtual=POOLS)],
        element,
        replace(element, value=("10.20.0.3", "53")),
    )


def free_veth(box: str) -> Case:
    made = pair(box)[0]
    assert isinstance(made, Veth)
    return [], made, replace(made, mtu=1400)


def vxlan(_box: str) -> Case:
    made = Vxlan(
        owner="net-1",
        name="nx-blue",
        mtu=1450,
        vni=5000,
        port=4789,
        mac=OTHER_MAC,
        master="nd-blue",
    )
    changed = replace(made, mac="02:42:0a:14:00:98", flood=True, owner="net-2")
    return [replace(BLUE, mtu=1450)], made, changed


def vxlan6(box: str) -> Case:
    rests_on, made, changed = vxlan(box)
    assert isinstance(made, Vxlan)
    assert isinstance(changed, Vxlan)
    return rests_on, replace(made, family=6), replace(changed, family=6)


def fdb_entry(box: str) -> Case:
    made = FdbEntry(owner="net-1", link="nx-blue", mac="02:42:0a:14:00:07", destination="192.0.2.7")
    return [*vxlan(box)[0], vxlan(box)[1]], made, replace(made, destination="192.0.2.8")


def fdb_entry6(box: str) -> Case:
    made = FdbEntry(
        owner="net-1", link="nx-blue", mac="02:42:0a:14:00:07", destination="2001:db8::7"
    )
    return [*vxlan6(box)[0], vxlan6(box)[1]], made, replace(made, destination="2001:db8::8")


def all_hosts(box: str) -> Case:
    made = FdbEntry(owner="net-1", link="nx-blue", mac=ALL_HOSTS, destination="192.0.2.7")
    return [*vxlan(box)[0], vxlan(box)[1]], made, None


def neighbour4(box: str) -> Case:
    made = Neighbour(owner="net-1", link="nd-blue", address="10.20.0.7", mac="02:42:0a:14:00:07")
    return [*vxlan(box)[0], vxlan(box)[1]], made, replace(made, mac="02:42:0a:14:00:08")


def neighbour6(box: str) -> Case:
    made = Neighbour(owner="net-1", link="nd-blue", address="fd20::7", mac="02:42:0a:14:00:07")
    return [*vxlan(box)[0], vxlan(box)[1]], made, replace(made, mac="02:42:0a:14:00:08")


CASES = [
    bridge,
    veth,
    handed_over,
    free_veth,
    ifb,
    shim,
    macvlan,
    address4,
    address6,
    inner_address,
    route4,
    route6,
    host_route,
    route_of_a_table,
    rule4,
    rule6,
    rule_for_all4,
    rule_for_all6,
    shaper,
    redirect,
    table,
    member,
    mapping,
    slot,
    vxlan,
    vxlan6,
    fdb_entry,
    fdb_entry6,
    all_hosts,
    neighbour4,
    neighbour6,
]


INDEPENDENT = (bridge, free_veth, ifb, rule4, rule6, rule_for_all4, rule_for_all6, table)
"""What needs nothing else to be there."""


@pytest.mark.parametrize("case", CASES)
async def test_lifecycle(lab: Lab, case: Callable[[str], Case]) -> None:
    rests_on, obj, changed = case(await lab.container())
    assert await lab.add(*rests_on) == []
    assert obj.key not in await lab.see(*rests_on, obj)

    assert await lab.add(obj) == []
    await lab.converge(*rests_on, obj)
    assert await lab.add(obj) == []
    assert await lab.converge(*rests_on, obj) == []

    if changed is not None:
        plan = await lab.converge(*rests_on, changed)
        assert [(op.verb, op.object) for op in plan] == [("change", changed)]
        assert await lab.add(changed) == []
        await lab.converge(*rests_on, obj)

    assert await lab.run("delete", obj) == []
    assert obj.key not in await lab.see(*rests_on, obj)
    assert await lab.run("delete", obj) == []


@pytest.mark.parametrize("case", CASES)
async def test_what_is_removed_can_be_made_again(lab: Lab, case: Callable[[str], Case]) -> None:
    rests_on, obj, _ = case(await lab.container())
    everything = [*rests_on, obj]
    await lab.converge(*everything)
    assert await lab.remove(*everything) == []
    assert await lab.see(*everything) == {}
    await lab.converge(*everything)


@pytest.mark.parametrize("case", [case for case in CASES if case not in INDEPENDENT])
async def test_without_what_it_rests_on_it_is_refused(
    lab: Lab, case: Callable[[str], Case]
) -> None:
    """And nothing of it is left behind."""
    box = await lab.container()
    _, obj, _ = case(box)
    links = lab.world.links(), lab.world.links(box)
    assert len(await lab.add(obj)) == 1
    assert obj.key not in await lab.see(obj)
    assert (lab.world.links(), lab.world.links(box)) == links
    assert await lab.run("delete", obj) == []


async def test_the_inner_end_of_a_pair_is_changed_and_goes_with_the_outer(lab: Lab) -> None:
    outer, inner = pair(await lab.container())
    assert isinstance(inner, VethPeer)
    assert await lab.add(outer) == []
    # It comes with the pair, but down.
    assert (await lab.see(inner))[inner.key] == replace(inner, up=False)
    assert await lab.add(inner) == []
    assert await lab.add(inner) == []
    assert await lab.converge(outer, inner) == []
    changed = replace(inner, mtu=1400, mac=OTHER_MAC)
    plan = await lab.converge(outer, changed)
    assert [(op.verb, op.object) for op in plan] == [("change", changed)]
    assert await lab.run("delete", inner) == []
    assert await lab.converge(outer, changed) == []
    assert await lab.run("delete", outer) == []
    assert await lab.see(outer, changed) == {}


async def test_lo_of_a_container_is_set_up_and_never_taken_away(lab: Lab) -> None:
    lo = Loopback(ns=await lab.container())
    seen = (await lab.see(lo))[lo.key]
    assert isinstance(seen, Loopback)
    assert not seen.up
    await lab.converge(lo)
    assert await lab.add(lo) == []
    assert await lab.remove(lo) == []
    assert await lab.converge(lo) == []


@pytest.mark.parametrize("inside", [False, True])
async def test_sysctl(lab: Lab, inside: bool) -> None:
    ns = await lab.container() if inside else ""
    on = Sysctl(ns=ns, name="net/ipv4/ip_forward", value="1")
    await lab.converge(on)
    assert await lab.add(on) == []
    assert (await lab.see(on))[on.key] == on
    off = replace(on, value="0")
    plan = await lab.converge(off)
    assert [op.verb for op in plan] == ["change"]
    assert on.key not in (await lab.observe()).state


async def test_an_unknown_sysctl_is_refused(lab: Lab) -> None:
    assert len(await lab.add(Sysctl(name="net/ipv4/conf/nothere/forwarding", value="1"))) == 1


async def test_a_changed_ruleset_keeps_its_elements(lab: Lab) -> None:
    old, new = ruleset(forward_guard=False), ruleset(forward_guard=True)
    elements = [
        SetElement(owner="net-1", set_name="bridges", element=("nd-blue",)),
        SetElement(
            owner="ep-1", set_name="ports4_any", element=("tcp", "80"), value=("10.20.0.2", "80")
        ),
    ]
    await lab.converge(old, *elements)
    plan = await lab.converge(new, *elements)
    assert [op.text() for op in plan] == [f"change {new.text()}"]


async def test_elements_go_with_the_sets_that_new_rules_have_not(lab: Lab) -> None:
    (with_slots,), goes, _ = slot("")
    _, stays, _ = mapping("")
    without = ruleset(forward_guard=False)
    await lab.converge(with_slots, goes, stays)
    await lab.converge(without, stays)
    assert goes.key not in await lab.see(without, stays, goes)


async def test_elements_go_with_the_ruleset(lab: Lab) -> None:
    rules = ruleset(forward_guard=False)
    element = SetElement(owner="net-1", set_name="bridges", element=("nd-blue",))
    await lab.converge(rules, element)
    lab.world.flush_ruleset()
    assert await lab.see(rules, element) == {}
    await lab.converge(rules, element)
    assert isinstance(rules, Ruleset)
    assert await lab.run("delete", rules) == []
    assert await lab.see(rules, element) == {}
