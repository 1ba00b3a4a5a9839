"""Random kernel states for property tests: each of them is one that Linux can be in."""

from collections.abc import Iterator
from ipaddress import ip_interface

from hypothesis import strategies as st

from netd.kernel.fake import HOST_INODE, FakeKernel
from netd.model.endpoint import Sandbox
from netd.plan.firewall import ruleset
from netd.plan.objects import (
    HOST,
    Address,
    Bridge,
    Ifb,
    Link,
    Loopback,
    Macvlan,
    Object,
    Redirect,
    Route,
    Rule,
    SetElement,
    Shaper,
    State,
    Sysctl,
    Veth,
    VethPeer,
    state_of,
)
from netd.plan.tunnels import ALL_HOSTS, FdbEntry, Neighbour, Vxlan

BOXES = tuple(f"net:[{HOST_INODE + number}]" for number in (1, 2))
SLOTS = ((BOXES[0], "eth0"), (BOXES[0], "eth1"), (BOXES[1], "eth0"))
HOST_NAMES = ("n0", "n1", "n2")
OWNERS = ("net-1", "ep-1", "ep-2")
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
RULESETS = (ruleset(forward_guard=False), ruleset(forward_guard=True))
PARENT = "eth0"  # of the fake kernel's default facts

_owners = st.sampled_from(OWNERS)
_macs = st.sampled_from(MACS)
_modes = st.sampled_from(("bridge", "private"))
_mtus = st.sampled_from((1400, 1500))


def fake_kernel() -> tuple[FakeKernel, dict[str, Sandbox]]:
    """A kernel with the containers that the states speak of."""
    kernel = FakeKernel()
    sandboxes = {box.key: box for box in (kernel.container(), kernel.container())}
    assert tuple(sandboxes) == BOXES
    return kernel, sandboxes


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any valid state over a few names, so that two of them often meet in a name."""
    links = list(_host_links(draw))
    bridges = [link.name for link in links if isinstance(link, Bridge)]
    links += _slots(draw, bridges)
    objects: list[Object] = [*links]
    if bridges:
        objects += _tunnel(draw, bridges)
    objects += _addresses_and_routes(draw, links)
    objects += _shaping(draw, links)
    if draw(st.booleans()):
        objects.append(Sysctl(name="net/ipv4/ip_forward", value="1"))
    if draw(st.booleans()):
        objects.append(draw(st.sampled_from(RULESETS)))
        objects += _elements(draw)
    return state_of(objects)


def _host_links(draw: st.DrawFn) -> Iterator[Link]:
    for name in HOST_NAMES:
        owner = draw(_owners)
        match draw(st.sampled_from(("", "bridge", "ifb", "macvlan"))):
            case "bridge":
                yield Bridge(owner=owner, name=name, mac=draw(_macs), mtu=draw(_mtus))
            case "ifb":
                yield Ifb(owner=owner, name=name)
            case "macvlan":
                yield Macvlan(owner=owner, name=name, parent=PARENT, mode="bridge", mac=draw(_macs))


def _slots(draw: st.DrawFn, bridges: list[str]) -> Iterator[Link]:
    """In each container's slot a veth, one of two host ends, or a macvlan, or nothing."""
    masters: list[str | None] = [None, *bridges]
    for number, (ns, name) in enumerate(SLOTS):
        owner, mac, mtu = draw(_owners), draw(_macs), draw(_mtus)
        match draw(st.sampled_from(("", "veth a", "veth b", "macvlan", "other end"))):
            case "veth a" | "veth b" as which:
                master = draw(st.sampled_from(masters))
                yield Veth(
                    owner=owner,
                    name=f"v{number}{which[-1]}",
                    mtu=mtu,
                    master=master,
                    hairpin=draw(st.booleans()) if master else False,
                    peer_ns=ns,
                    peer_name=name,
                    peer_mac=mac,
                )
                yield VethPeer(ns=ns, owner=owner, name=name, mac=mac, mtu=mtu)
                yield Loopback(ns=ns)
            case "macvlan":
                yield Macvlan(
                    ns=ns, owner=owner, name=name, parent=PARENT, mode="bridge", mac=mac, mtu=mtu
                )
                yield Loopback(ns=ns)
            case "other end":
                yield Ifb(owner=owner, name=f"v{number}a")


def _tunnel(draw: st.DrawFn, bridges: list[str]) -> Iterator[Object]:
    """Perhaps a tunnel on one of the bridges, with entries."""
    if draw(st.booleans()):
        return
    master, family = draw(st.sampled_from(bridges)), draw(st.sampled_from((4, 6)))
    yield Vxlan(
        owner=draw(_owners),
        name="t0",
        mtu=draw(_mtus),
        vni=draw(st.sampled_from((5000, 5001))),
        port=draw(st.sampled_from((4789, 4790))),
        mac=draw(_macs),
        master=master,
        family=6 if family == 6 else 4,
        flood=draw(st.booleans()),
    )
    hosts = ("192.0.2.1", "192.0.2.2") if family == 4 else ("2001:db8::1", "2001:db8::2")
    for mac in draw(st.sets(st.sampled_from((*MACS, ALL_HOSTS)))):
        host = draw(st.sampled_from(hosts))
        yield FdbEntry(owner=draw(_owners), link="t0", mac=mac, destination=host)
    for address in draw(st.sets(st.sampled_from(("10.9.0.1", "fd09::1")))):
        yield Neighbour(owner=draw(_owners), link=master, address=address, mac=draw(_macs))


def _addresses_and_routes(draw: st.DrawFn, links: list[Link]) -> Iterator[Object]:
    have_default: set[tuple[str, int]] = set()
    for number, link in enumerate(links):
        if isinstance(link, Loopback):
            continue
        owner = draw(_owners)
        host = draw(st.sampled_from((2, 3)))
        for text in (f"10.{number}.0.{host}/24", f"fd00:{number}::{host}/64"):
            if not draw(st.booleans()):
                continue
            yield Address(ns=link.ns, owner=owner, link=link.name, address=text)
            here = ip_interface(text)
            destination = "0.0.0.0/0" if here.version == 4 else "::/0"
            default = Route(
                ns=link.ns,
                owner=owner,
                destination=destination,
                link=link.name,
                gateway=str(here.network.network_address + 1),
                # An IPv6 route outlives its source and forgets it; that takes a second plan.
                source=draw(st.sampled_from((None, str(here.ip)))) if here.version == 4 else None,
            )
            # The host's own default route is the fake kernel's.
            if link.ns != HOST and (link.ns, here.version) not in have_default:
                have_default.add((link.ns, here.version))
                yield default
            elif draw(st.booleans()):
                table = 1000 + number
                yield Route(
                    ns=link.ns,
                    owner=owner,
                    destination=destination,
                    link=link.name,
                    gateway=default.gateway,
                    table=table,
                )
                yield Rule(
                    ns=link.ns,
                    owner=owner,
                    source=f"{here.ip}/{here.max_prefixlen}",
                    table=table,
                    priority=110,
                    link=link.name,
                )


def _shaping(draw: st.DrawFn, links: list[Link]) -> Iterator[Object]:
    ifbs = [link.name for link in links if isinstance(link, Ifb)]
    for veth in links:
        if not isinstance(veth, Veth):
            continue
        rate = draw(st.sampled_from((None, 1_000_000, 2_000_000)))
        if rate:
            yield Shaper(
                owner=veth.owner,
                link=veth.name,
                rate_bps=rate,
                burst_bytes=20_000,
                latency_us=50_000,
            )
        if ifbs and rate is None:
            yield Redirect(owner=veth.owner, link=veth.name, target=draw(st.sampled_from(ifbs)))


def _elements(draw: st.DrawFn) -> Iterator[Object]:
    for port in ("80", "443"):
        target = draw(st.sampled_from(("", "10.0.0.2", "10.0.0.3")))
        if target:
            yield SetElement(
                owner=draw(_owners),
                set_name="ports4_any",
                element=("tcp", port),
                value=(target, port),
            )
