"""The way between two ends, judged from values: each thing that breaks is named, and only that.

host-1 (192.0.2.10)                      host-2 (192.0.2.20)
  web-1  10.20.0.2 on blue                 db-1  10.20.0.3 on blue
  open   10.40.0.2 on open
"""

from typing import Any

import pytest
from msgspec.structs import replace

from netd.model.endpoint import AttachRequest, Endpoint, EndpointRecord, Sandbox
from netd.model.explanation import Explanation, Step
from netd.model.network import Network
from netd.model.overlay import RemoteEndpoint, Vtep
from netd.model.views import Member
from netd.plan import bridge, macvlan
from netd.plan.explain import explain, settle
from netd.plan.facts import Echo, Facts, ForeignChain, LinkFact, NextHop
from netd.plan.finding import through_port, with_own_address
from netd.plan.firewall import ruleset
from netd.plan.objects import HOST, Key, Object, SetElement, State, Sysctl, state_of
from netd.plan.overlay import Opening, open_objects, remote_objects
from netd.plan.parties import Directory, Opened, Remote
from netd.plan.passage import port_element
from netd.plan.view import View

OWN, PEER = "1" * 32, "2" * 32
NS = "net:[4026532001]"
HOST_1 = Member(
    id=OWN, name="host-1", address="192.0.2.10:7940", state="alive", rtt_ms=0.0, version="1"
)
HOST_2 = replace(HOST_1, id=PEER, name="host-2", address="192.0.2.20:7940", rtt_ms=0.4)
BLUE = Network(
    id="b" * 16,
    name="blue",
    driver="overlay",
    subnets=("10.20.0.0/24", "fd20::/64"),
    gateways=("10.20.0.1", "fd20::1"),
    mtu=1450,
    vni=4097,
)
OPEN = Network(
    id="c" * 16,
    name="open",
    driver="bridge",
    subnets=("10.40.0.0/24",),
    gateways=("10.40.0.1",),
    isolated=False,
    mtu=1500,
)
DB = RemoteEndpoint(
    name="db-1",
    container_id="c-db",
    addresses=("10.20.0.3/24", "fd20::3/64"),
    mac="0e:aa:0a:14:00:03",
    aliases=("database",),
)
VTEPS = {
    OWN: Vtep(addresses=("10.20.0.129/24", "fd20::81/64"), mac="0e:aa:0a:14:00:81", mtu=1450),
    PEER: Vtep(addresses=("10.20.0.130/24", "fd20::82/64"), mac="0e:aa:0a:14:00:82", mtu=1450),
}


def record(name: str, network: Network, address: str, digit: str, ns: str = NS) -> EndpointRecord:
    endpoint_id = digit * 16
    return EndpointRecord(
        endpoint=Endpoint(
            id=endpoint_id,
            network=network.name,
            network_id=network.id,
            container_id=f"c-{name}",
            name=name,
            node="host-1",
            ifname="eth0",
            host_ifname=f"nv{endpoint_id[:12]}",
            mac="0e:aa:0a:14:00:02",
            mtu=network.mtu,
            addresses=(address,),
            gateways=network.gateways[:1],
            default_route=True,
            netns=f"/run/netns/{name}",
        ),
        request=AttachRequest(container_id=f"c-{name}", netns=f"/run/netns/{name}"),
        sandbox=Sandbox(path=f"/run/netns/{name}", inode=int(ns[5:-1])),
    )


WEB = record("web-1", BLUE, "10.20.0.2/24", "e")
OTHER = record("open", OPEN, "10.40.0.2/24", "f", "net:[4026532002]")
DIRECTORY = Directory(
    zone="netd.internal",
    members=(HOST_1, HOST_2),
    host_addresses=("192.0.2.10/24",),
    networks={BLUE.id: BLUE, OPEN.id: OPEN},
    records=(WEB, OTHER),
    remotes=(Remote(member=PEER, network_id=BLUE.id, id="d" * 16, endpoint=DB),),
    opened=tuple(
        Opened(member=member, network_id=BLUE.id, vtep=vtep) for member, vtep in VTEPS.items()
    ),
)
OPENING = Opening(addresses=VTEPS[OWN].addresses, mtu=1450)
OBJECTS: list[Object] = [
    ruleset(forward_guard=False),
    Sysctl(name="net/ipv4/ip_forward", value="1"),
    *open_objects(BLUE, OPENING),
    *bridge.network_objects(OPEN),
    *bridge.endpoint_objects(BLUE, WEB),
    *bridge.endpoint_objects(OPEN, OTHER),
    *remote_objects(BLUE, "peer", DB.mac, DB.addresses, "192.0.2.20"),
    SetElement(set_name="vteps4", element=("192.0.2.20",)),
    SetElement(
        set_name="ports4_any",
        element=("tcp", "8080"),
        value=("10.40.0.2", "80"),
        owner=OTHER.endpoint.id,
    ),
]
FACTS = Facts(
    node="host-1",
    boot_id="b",
    kernel="6.1.0",
    links=(LinkFact(index=2, name="eth0", mtu=1500),),
    sysctls={"net/ipv4/ip_forward": "1"},
)
UPLINK = NextHop(link="eth0")
HOPS: dict[tuple[str, str], NextHop | None] = {
    (NS, "10.20.0.3"): NextHop(link="eth0"),
    (NS, "198.51.100.7"): NextHop(link="eth0", gateway="10.20.0.1"),
    (NS, "10.40.0.2"): NextHop(link="eth0", gateway="10.20.0.1"),
    (NS, "192.0.2.10"): NextHop(link="eth0", gateway="10.20.0.1"),
    ("net:[4026532002]", "10.20.0.2"): NextHop(link="eth0", gateway="10.40.0.1"),
    ("net:[4026532002]", "198.51.100.7"): NextHop(link="eth0", gateway="10.40.0.1"),
    ("net:[4026532002]", "192.0.2.10"): NextHop(link="eth0", gateway="10.40.0.1"),
    (HOST, "198.51.100.7"): NextHop(link="eth0", gateway="192.0.2.1"),
    (HOST, "192.0.2.10"): NextHop(link="lo", local=True),
    (HOST, "192.0.2.20"): UPLINK,
    (HOST, "10.20.0.2"): NextHop(link="nd-blue"),
    (HOST, "10.20.0.3"): NextHop(link="nd-blue"),
    (HOST, "10.40.0.2"): NextHop(link="nd-open"),
}
BACK = Explanation(
    source="d" * 16,
    destination="10.20.0.2",
    node="host-2",
    result="ok",
    steps=(Step(name="source", status="ok", detail="eth0 of db-1 is up"),),
)
VIEW = View(
    directory=DIRECTORY,
    wanted=state_of(OBJECTS),
    seen=state_of(OBJECTS),
    facts=FACTS,
    hops=HOPS,
    small=Echo(rtt_ms=0.5),
    full=Echo(rtt_ms=0.6),
    answer=BACK,
)


def way(source: str, destination: str, port: int | None = None, **changes: Any) -> Explanation:
    """What `netctl explain` answers when things are as in VIEW but for `changes`."""
    view = replace(VIEW, port=port, **changes)
    ends, named = settle(view.directory, source, destination)
    assert ends is not None, named.detail
    if ends.destination.kind == "host":
        found = port_element(view.wanted, ends.destination_address, "tcp", port)
        if found is not None:
            view = replace(view, published=found)
            ends = through_port(view.directory, ends, found)
    ends = with_own_address(view.directory, ends)
    return explain(view, ends, named, asked=(source, destination), protocol="tcp")


def shown(answer: Explanation) -> str:
    """Each step on a line, its remedy below it."""
    lines = [f"{step.name} {step.status}: {step.detail}" for step in answer.steps]
    return "\n".join(lines)


def failure(answer: Explanation) -> Step:
    """The one step that failed: those before did not, those after were not judged."""
    assert answer.result == "failed"
    assert len(answer.steps) == len({step.name for step in answer.steps}) == 10
    (found,) = (step for step in answer.steps if step.status == "failed")
    assert found.name == answer.failed
    after = answer.steps[answer.steps.index(found) + 1 :]
    assert {step.detail for step in after} <= {"not judged: an earlier step failed"}
    assert found.remedy
    return found


def without(*keys: Key, state: State = VIEW.seen) -> State:
    gone = set(keys)
    assert gone <= state.keys()
    return {key: obj for key, obj in state.items() if key not in gone}


def with_member(**changes: Any) -> Directory:
    return replace(DIRECTORY, members=(HOST_1, replace(HOST_2, **changes)))


ALL_IS_WELL = """\
name ok: web-1 is 10.20.0.2 on blue, on host-1; db-1 is 10.20.0.3 on blue, on host-2
policy ok: netd filters nothing within blue
source ok: eth0 of web-1 is up with 10.20.0.2, nveeeeeeeeeeee connects it to nd-blue
route ok: web-1 sends 10.20.0.3 by eth0 directly
neighbour ok: nd-blue answers that 10.20.0.3 is at 0e:aa:0a:14:00:03
tunnel ok: nx-blue is up: VNI 4097, UDP port 4789, MTU 1450
forwarding ok: frames to 0e:aa:0a:14:00:03 go by nx-blue to 192.0.2.20, host-2
underlay ok: host-2 is 192.0.2.20 by eth0, round trip 0.4 ms, full packets pass
destination ok: host-2 says: eth0 of db-1 is up
return ok: host-2 has the way back"""


GONE = Step(name="source", status="failed", detail="db-1 is gone", remedy="start it again")


def test_a_way_through_a_tunnel_step_by_step() -> None:
    answer = way("web-1", "db-1", 5432)
    assert shown(answer) == ALL_IS_WELL
    assert (answer.result, answer.failed, answer.node) == ("ok", None, "host-1")
    assert (answer.source, answer.destination, answer.port) == ("web-1", "db-1", 5432)


VETH = (HOST, "link", "nveeeeeeeeeeee")
VXLAN = (HOST, "link", "nx-blue")
FDB = (HOST, "fdb", "nx-blue", DB.mac)
ANSWERED = (HOST, "neighbour", "nd-blue", "10.20.0.3")


@pytest.mark.parametrize(
    ("changes", "step", "detail"),
    [
        (
            {"missing": frozenset({NS})},
            "source",
            "the network namespace of web-1, /run/netns/web-1, is gone",
        ),
        ({"seen": without(VETH)}, "source", "missing: link nveeeeeeeeeeee type veth"),
        ({"seen": without((NS, "link", "eth0"))}, "source", f"missing in {NS}: link eth0"),
        ({"seen": without((HOST, "link", "nd-blue"))}, "source", "missing: link nd-blue"),
        (
            {"seen": VIEW.seen | {VETH: replace(VIEW.seen[VETH], up=False)}},
            "source",
            "up is False, not True",
        ),
        (
            {"seen": VIEW.seen | {VETH: replace(VIEW.seen[VETH], master=None)}},
            "source",
            "master is None, not nd-blue",
        ),
        (
            {"seen": without((NS, "address", "eth0", "10.20.0.2/24"))},
            "source",
            f"missing in {NS}: address 10.20.0.2/24 dev eth0",
        ),
        (
            {"hops": HOPS | {(NS, "10.20.0.3"): None}},
            "route",
            "web-1 has no route to 10.20.0.3",
        ),
        (
            {"hops": HOPS | {(NS, "10.20.0.3"): NextHop(link="tun0")}},
            "route",
            "web-1 sends 10.20.0.3 by tun0, not by eth0",
        ),
        (
            {"seen": without(ANSWERED)},
            "neighbour",
            f"missing: neighbour 10.20.0.3 dev nd-blue address {DB.mac}",
        ),
        (
            {"seen": VIEW.seen | {ANSWERED: replace(VIEW.seen[ANSWERED], mac="02:00:00:00:00:09")}},
            "neighbour",
            f"mac is 02:00:00:00:00:09, not {DB.mac}",
        ),
        ({"seen": without(VXLAN)}, "tunnel", "missing: link nx-blue type vxlan id 4097"),
        ({"wanted": without(VXLAN)}, "tunnel", "this host has blue not open"),
        (
            {"seen": VIEW.seen | {VXLAN: replace(VIEW.seen[VXLAN], mtu=1400)}},
            "tunnel",
            "mtu is 1400, not 1450",
        ),
        (
            {"foreign": frozenset({VXLAN}), "seen": without(VXLAN)},
            "tunnel",
            "something that is not netd's is in the place of link nx-blue",
        ),
        (
            {"seen": without((HOST, "element", "vteps4", "192.0.2.20"))},
            "tunnel",
            "missing: element vteps4 { 192.0.2.20 }",
        ),
        (
            {"directory": replace(DIRECTORY, opened=DIRECTORY.opened[:1])},
            "tunnel",
            "host-2 has not said that it has blue open",
        ),
        ({"seen": without(FDB)}, "forwarding", f"missing: fdb {DB.mac} dev nx-blue"),
        (
            {"seen": VIEW.seen | {FDB: replace(VIEW.seen[FDB], destination="192.0.2.30")}},
            "forwarding",
            "destination is 192.0.2.30, not 192.0.2.20",
        ),
        (
            {"directory": with_member(state="dead", since="2026-01-02"), "small": None},
            "underlay",
            "host-2 is dead since 2026-01-02",
        ),
        (
            {"directory": with_member(reachable=False), "small": Echo(rtt_ms=None)},
            "underlay",
            "host-2 at 192.0.2.20 does not answer this host, though others hear it",
        ),
        (
            {"hops": HOPS | {(HOST, "192.0.2.20"): None}},
            "underlay",
            "this host has no route to 192.0.2.20, host-2",
        ),
        (
            {"facts": replace(FACTS, links=(LinkFact(index=2, name="eth0", mtu=1450),))},
            "underlay",
            "eth0 carries 1450 bytes, a full packet of blue needs 1500",
        ),
        (
            {"small": Echo(rtt_ms=None), "full": None, "plain": Echo(rtt_ms=0.4)},
            "underlay",
            "host-2 answers, but not through the tunnel: something drops VXLAN, UDP port 4789",
        ),
        (
            {"full": Echo(rtt_ms=None)},
            "underlay",
            "packets of 1450 bytes to host-2 vanish, small ones do not",
        ),
        (
            {
                "answer": replace(
                    BACK,
                    steps=(
                        Step(name="source", status="failed", detail="db-1 is gone", remedy="start"),
                    ),
                )
            },
            "destination",
            "host-2 says: db-1 is gone",
        ),
    ],
)
def test_what_breaks_is_named(changes: dict[str, Any], step: str, detail: str) -> None:
    found = failure(way("web-1", "db-1", **changes))
    assert found.name == step
    assert detail in found.detail


def test_a_host_that_answers_no_echo_requests_proves_nothing() -> None:
    lost = Echo(rtt_ms=None)
    answer = way("web-1", "db-1", small=lost, full=None, plain=lost)
    assert answer.result == "ok"
    assert answer.steps[7].detail.endswith("the tunnel could not be tried")


def test_a_host_whose_netd_is_stopped_forwards() -> None:
    dead = with_member(state="dead", since="2026-01-02")
    answer = way("web-1", "db-1", directory=dead, answer="it is dead")
    assert answer.result == "unknown"
    assert answer.steps[7].detail.endswith("; netd there is dead")


def test_the_way_back_is_the_other_hosts_to_judge() -> None:
    broken = Step(name="forwarding", status="failed", detail="missing: fdb", remedy="reconcile")
    found = failure(way("web-1", "db-1", answer=replace(BACK, steps=(*BACK.steps, broken))))
    assert found.name == "return"
    assert found.detail == "host-2 says of the way back: forwarding: missing: fdb"
    assert found.remedy == "on host-2: reconcile"


def test_a_host_that_cannot_be_asked_leaves_it_open() -> None:
    answer = way("web-1", "db-1", answer="no answer within 5 s")
    assert answer.result == "unknown"
    assert [step.status for step in answer.steps[:8]] == ["ok"] * 8
    assert {(step.status, step.detail) for step in answer.steps[8:]} == {
        ("skipped", "host-2 could not be asked: no answer within 5 s")
    }


def test_the_host_itself_sends_with_its_own_address_in_the_network() -> None:
    answer = way("host", "db-1")
    assert answer.result == "ok"
    assert answer.steps[2].detail == "the host itself, as 10.20.0.129"
    assert answer.steps[3].detail == "the host sends 10.20.0.3 by nd-blue directly"
    wrong = HOPS | {(HOST, "10.20.0.3"): UPLINK}
    found = failure(way("host", "db-1", hops=wrong))
    assert (found.name, found.detail) == (
        "route",
        "the host sends 10.20.0.3 by eth0, not by nd-blue",
    )


def test_by_ipv6() -> None:
    own = replace(WEB, endpoint=replace(WEB.endpoint, addresses=("10.20.0.2/24", "fd20::2/64")))
    objects = [*OBJECTS, *bridge.endpoint_objects(BLUE, own)]
    hops = HOPS | {(NS, "fd20::3"): NextHop(link="eth0")}
    view: dict[str, Any] = {
        "directory": replace(DIRECTORY, records=(own,)),
        "wanted": state_of(objects),
        "seen": state_of(objects),
        "hops": hops,
    }
    answer = way("web-1", "fd20::3", **view)
    assert answer.result == "ok"
    assert answer.steps[4].detail == f"nd-blue answers that fd20::3 is at {DB.mac}"
    key = (HOST, "neighbour", "nd-blue", "fd20::3")
    view["seen"] = without(key, state=view["seen"])
    assert failure(way("web-1", "fd20::3", **view)).name == "neighbour"


RULES = (HOST, "ruleset", "inet", "netd")
OUTSIDE = "198.51.100.7"


def test_the_way_outside() -> None:
    answer = way("web-1", OUTSIDE)
    assert answer.result == "ok"
    assert (
        shown(answer)
        == """\
name ok: web-1 is 10.20.0.2 on blue, on host-1; 198.51.100.7, outside of this host's networks
policy ok: the networks let it pass
source ok: eth0 of web-1 is up with 10.20.0.2, nveeeeeeeeeeee connects it to nd-blue
route ok: web-1 sends 198.51.100.7 by eth0 via 10.20.0.1; the host sends 198.51.100.7 by eth0 \
via 192.0.2.1
neighbour skipped: not needed: who has the address answers for it itself
tunnel skipped: not needed: it stays on this host, or leaves netd's networks
forwarding skipped: not needed: bridges learn who is on this host
underlay skipped: not needed: no other host of the cluster takes part
destination skipped: 198.51.100.7 is outside: netd sees nothing of it
return skipped: not needed: no container answers"""
    )


@pytest.mark.parametrize(
    ("destination", "status", "also"),
    [
        ("db-1", "skipped", ""),  # the host has no part in it
        ("192.0.2.10", "skipped", ""),  # it ends there
        (OUTSIDE, "ok", "; the host sends 198.51.100.7 by eth0 via 192.0.2.1"),
    ],
)
def test_a_container_that_its_runtime_sets_up(destination: str, status: str, also: str) -> None:
    """Docker's: what the host would do is not taken for what the container does."""
    given = replace(WEB, sandbox=None)
    directory = replace(DIRECTORY, records=(given, OTHER))
    answer = way("web-1", destination, directory=directory)
    assert answer.result == "ok"
    (step,) = (step for step in answer.steps if step.name == "route")
    assert step.status == status
    target = "10.20.0.3" if destination == "db-1" else destination
    said = f"which way web-1 sends {target} its runtime has set, where netd cannot look"
    assert step.detail == said + also


def test_the_way_back_from_a_container_that_its_runtime_sets_up() -> None:
    given = replace(WEB, sandbox=None)
    directory = replace(DIRECTORY, records=(given, OTHER))
    answer = way("db-1", "web-1", directory=directory)
    assert (answer.steps[-1].status, answer.steps[-1].detail) == (
        "ok",
        "nothing is in the way; web-1's own routes its runtime has set",
    )


@pytest.mark.parametrize(
    ("changes", "step", "detail"),
    [
        (
            {"seen": without((HOST, "ruleset", "inet", "netd"))},
            "policy",
            "missing: table inet netd",
        ),
        (
            {"seen": without((HOST, "element", "masqueraded", "nd-blue"))},
            "policy",
            "missing: element masqueraded { nd-blue }",
        ),
        (
            {
                "facts": replace(
                    FACTS,
                    foreign_chains=(
                        ForeignChain(
                            table="ip filter", chain="FORWARD", verdict="policy drop", program="ufw"
                        ),
                    ),
                )
            },
            "policy",
            "chain FORWARD of table ip filter (ufw) drops forwarded packets: policy drop",
        ),
        (
            {"hops": HOPS | {(NS, OUTSIDE): None}},
            "route",
            f"web-1 has no route to {OUTSIDE}",
        ),
        (
            {"seen": without((HOST, "address", "nd-blue", "10.20.0.1/32"))},
            "route",
            "missing: address 10.20.0.1/32 dev nd-blue",
        ),
        (
            {"seen": without((HOST, "sysctl", "net/ipv4/ip_forward"))},
            "route",
            "missing: sysctl net.ipv4.ip_forward = 1",
        ),
        ({"hops": HOPS | {(HOST, OUTSIDE): None}}, "route", f"the host has no route to {OUTSIDE}"),
        (
            {"facts": replace(FACTS, links=(LinkFact(index=2, name="eth0", up=False),))},
            "route",
            "eth0 is down",
        ),
    ],
)
def test_what_breaks_on_the_way_outside(changes: dict[str, Any], step: str, detail: str) -> None:
    found = failure(way("web-1", OUTSIDE, **changes))
    assert found.name == step
    assert detail in found.detail


def networks(**changes: Any) -> Directory:
    return replace(DIRECTORY, networks={BLUE.id: replace(BLUE, **changes), OPEN.id: OPEN})


@pytest.mark.parametrize(
    ("source", "destination", "changes", "detail"),
    [
        ("web-1", "10.40.0.2", {}, "blue is isolated: web-1 does not reach other networks"),
        ("open", "10.20.0.2", {}, "blue is isolated: from outside of it, web-1 is reached by"),
        ("open", "10.20.0.3", {}, "blue is isolated: from outside of it, db-1 is reached by"),
        (OUTSIDE, "web-1", {}, "blue is isolated: from outside of it, web-1 is reached by"),
        ("web-1", OUTSIDE, {"internal": True}, "blue is internal: what web-1 sends leaves it for"),
        ("open", "10.20.0.2", {"internal": True}, "blue is internal: nobody but the host reaches"),
        (
            "web-1",
            "host",
            {"internal": True, "port": 8080},
            "blue is internal: what web-1 sends leaves it for the host only",
        ),
    ],
)
def test_what_networks_forbid(
    source: str, destination: str, changes: dict[str, Any], detail: str
) -> None:
    port = changes.pop("port", None)
    found = failure(way(source, destination, port, directory=networks(**changes)))
    assert found.name == "policy"
    assert detail in found.detail


def test_networks_that_are_not_isolated() -> None:
    directory = networks(isolated=False)
    answer = way("open", "10.20.0.2", directory=directory)
    assert answer.result == "ok"
    assert answer.steps[1].detail == "the networks let it pass"
    no_way_back = HOPS | {(NS, "10.40.0.2"): None}
    found = failure(way("open", "10.20.0.2", directory=directory, hops=no_way_back))
    assert found.name == "return"
    assert found.detail == "route of the answer: web-1 has no route to 10.40.0.2"


def on_parent(**options: Any) -> dict[str, Any]:
    """web-1 is on a macvlan network instead."""
    network = Network(
        id=BLUE.id,
        name="lan",
        driver="macvlan",
        subnets=("10.20.0.0/24",),
        parent="eth0",
        options=options,
    )
    twin = record("twin", network, "10.20.0.8/24", "a", "net:[4026532003]")
    objects = [*macvlan.endpoint_objects(network, WEB), *macvlan.endpoint_objects(network, twin)]
    hops = {
        (NS, "10.20.0.8"): NextHop(link="eth0"),
        (NS, "192.0.2.10"): NextHop(link="eth0"),
        ("net:[4026532003]", "10.20.0.2"): NextHop(link="eth0"),
    }
    return {
        "directory": replace(
            DIRECTORY, networks={network.id: network}, records=(WEB, twin), opened=(), remotes=()
        ),
        "wanted": state_of(objects),
        "seen": state_of(objects),
        "hops": HOPS | hops,
    }


def test_on_a_parents_own_segment() -> None:
    assert way("web-1", "twin", **on_parent()).result == "ok"
    found = failure(way("web-1", "twin", **on_parent(mode="private")))
    assert found.detail == "lan has the mode private: its containers do not reach each other"
    for one, other in (("web-1", "host"), ("host", "web-1")):
        found = failure(way(one, other, **on_parent()))
        assert found.name == "policy"
        assert "the kernel passes nothing between eth0 and the macvlan links on it" in found.detail
        assert way(one, other, **on_parent(shim=True)).steps[1].status == "ok"


def test_a_network_without_a_way_out() -> None:
    network = Network(id=BLUE.id, name="blue", driver="none")
    found = failure(
        way("web-1", OUTSIDE, directory=replace(DIRECTORY, networks={BLUE.id: network}))
    )
    assert found.name == "policy"
    assert "it has no way out" in found.detail


def test_a_published_port_leads_to_its_container() -> None:
    answer = way("web-1", "host", 8080)
    assert answer.steps[1].detail == (
        "port 8080 of the host leads to open at 10.40.0.2:80; the networks let it pass"
    )
    assert answer.steps[8].status == "ok"
    found = failure(
        way("web-1", "host", 8080, seen=without((HOST, "element", "ports4_any", "tcp", "8080")))
    )
    assert found.name == "policy"
    assert "missing: element ports4_any { tcp . 8080 : 10.40.0.2 . 80 }" in found.detail


def test_a_port_that_nobody_has_published() -> None:
    answer = way("web-1", "host", 9090)
    assert answer.result == "ok"
    assert "no container has published port 9090" in answer.steps[1].detail
    assert answer.steps[8].detail == "the host itself, as 192.0.2.10"


def test_from_outside_to_a_published_port() -> None:
    answer = way(OUTSIDE, "host-1", 8080)
    assert answer.result == "ok"
    assert [step.status for step in answer.steps[:4]] == ["ok", "ok", "skipped", "skipped"]
    assert answer.steps[8].status == answer.steps[9].status == "ok"


def test_another_hosts_own_address_is_outside() -> None:
    hops = HOPS | {(NS, "192.0.2.20"): NextHop(link="eth0", gateway="10.20.0.1")}
    answer = way("web-1", "host-2", hops=hops, answer=None)
    assert answer.result == "ok"
    assert answer.steps[0].detail.endswith(
        "; the host host-2 is 192.0.2.20, outside of this host's networks"
    )
    assert answer.steps[8].detail == "the host host-2 is outside: netd sees nothing of it"
    by_tunnel = way("web-1", "10.20.0.130", hops=HOPS | {(NS, "10.20.0.130"): UPLINK})
    assert by_tunnel.failed == "neighbour"  # the host's own address is not written here


# Names


@pytest.mark.parametrize(
    "ref",
    [
        "db-1", "DB-1", "database", "db-1.blue", "db-1.blue.netd.internal.", "database.blue",
        "c-db", "d" * 16, "10.20.0.3", "10.20.0.3/24", "fd20::3", "FD20:0::3",
    ],
)  # fmt: skip
def test_what_an_endpoint_is_called(ref: str) -> None:
    ends, named = settle(DIRECTORY, "host", ref)
    if ":" in ref:
        assert ends is None
        assert "no address of the same family" in named.detail
        return
    assert ends is not None
    assert ends.destination.id == "d" * 16
    assert ends.destination_address == "10.20.0.3"


@pytest.mark.parametrize(
    ("ref", "name", "kind"),
    [
        ("host", "the host host-1", "host"),
        ("host-1", "the host host-1", "host"),
        ("127.0.0.1", "the host host-1", "host"),
        ("10.20.0.1", "the host host-1", "host"),
        ("10.20.0.130", "the host host-2", "host"),
        ("host-2.node.netd.internal", "the host host-2", "outside"),
        (PEER, "the host host-2", "outside"),
        ("192.0.2.20", "the host host-2", "outside"),
        (OUTSIDE, OUTSIDE, "outside"),
    ],
)
def test_hosts_and_what_is_outside(ref: str, name: str, kind: str) -> None:
    ends, _ = settle(DIRECTORY, "web-1", ref)
    assert ends is not None
    assert (ends.destination.name, ends.destination.kind) == (name, kind)


@pytest.mark.parametrize(("source", "destination"), [("web-1", "nobody"), ("nobody", "web-1")])
def test_a_name_that_nobody_has(source: str, destination: str) -> None:
    ends, named = settle(DIRECTORY, source, destination)
    assert ends is None
    assert (named.name, named.status) == ("name", "failed")
    assert "is called 'nobody'" in named.detail
    assert named.remedy


def test_a_name_that_the_container_does_not_see() -> None:
    answer = way("open", "db-1")
    found = failure(answer)
    assert found.name == "name"
    assert found.detail == "open is on open and does not see the name db-1, which is on blue"
    assert found.remedy.startswith("netctl endpoint attach blue --container c-open --netns PATH")


def test_of_several_the_one_that_shares_a_network_is_meant() -> None:
    twin = record("open", BLUE, "10.20.0.9/24", "a", "net:[4026532003]")
    directory = replace(DIRECTORY, records=(OTHER, twin, WEB))
    ends, _ = settle(directory, "web-1", "open")
    assert ends is not None
    assert ends.destination.id == "a" * 16


@pytest.mark.parametrize("address", ["10.20.0.77", "fd20::77", "10.40.0.9"])
def test_an_address_of_a_network_that_nobody_has_is_not_outside(address: str) -> None:
    ends, named = settle(DIRECTORY, "web-1", address)
    assert ends is None
    assert (named.status, "nobody that this host knows has" in named.detail) == ("failed", True)
