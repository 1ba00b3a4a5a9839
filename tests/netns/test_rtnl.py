"""Links, addresses, routes and rules on a real kernel: applied, observed, removed."""

import errno
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import structs

from netd.engine.interfaces import Observation, Scope
from netd.kernel import rtnl_encode as encode
from netd.kernel import tag
from netd.kernel.apply import Applier
from netd.kernel.netlink import NetlinkSocket
from netd.kernel.netns import Namespaces
from netd.kernel.nft import Nftables
from netd.kernel.observe import Observer
from netd.kernel.rtnl_decode import LINKS
from netd.kernel.tc import TrafficControl
from netd.model.endpoint import Sandbox
from netd.plan.diff import creation, diff
from netd.plan.interior import deaf_to_routers
from netd.plan.objects import (
    Address,
    Bridge,
    Ifb,
    Loopback,
    Macvlan,
    Object,
    Route,
    Rule,
    State,
    Sysctl,
    Veth,
    VethPeer,
    render,
    state_of,
)
from netd.plan.operations import Failure, Operation, Verb
from tests.netns.conftest import Container, run


class Kernel:
    """What LinuxKernel runs on its thread, on this one."""

    def __init__(self) -> None:
        self.namespaces = Namespaces()
        self.rtnl = NetlinkSocket()
        self.nft = Nftables()
        self.tc = TrafficControl(self.rtnl)
        self.sandboxes: dict[str, Sandbox] = {}

    def add_sandbox(self, container: Container) -> str:
        sandbox, _ = self.namespaces.identify(path=None, pid=container.pid)
        self.sandboxes[sandbox.key] = sandbox
        return sandbox.key

    def apply(self, operations: list[Operation]) -> list[Failure]:
        applier = Applier(self.rtnl, self.namespaces, self.nft, self.tc)
        failures, _ = applier.run(operations, self.sandboxes)
        return failures

    def run(self, verb: Verb, *objects: Object) -> list[Failure]:
        return self.apply([Operation(verb=verb, object=obj, reason="test") for obj in objects])

    def make(self, *objects: Object) -> None:
        assert self.apply(creation(list(objects), "test")) == []

    def observe(self, wanted: State | None = None) -> Observation:
        scope = Scope(sandboxes=self.sandboxes, wanted=wanted or {})
        return Observer(self.rtnl, self.namespaces, self.nft, self.tc, scope).run()

    def reap(self) -> None:
        assert self.rtnl.send([encode.delete_retired_links()]) == {}

    def converge(self, wanted: State) -> list[Operation]:
        operations = diff(wanted, self.observe(wanted).state)
        assert self.apply(operations) == []
        left = diff(wanted, self.observe(wanted).state)
        assert left == [], render(wanted)
        return operations


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.rtnl.close()
    made.nft.close()
    made.namespaces.close()


def bridge(**changes: Any) -> Bridge:
    made = Bridge(name="nd-blue", mac="02:00:00:00:00:01", mtu=1450, owner="net1")
    return structs.replace(made, **changes)


def endpoint(ns: str, number: int = 2, name: str = "eth0") -> list[Object]:
    """All that an endpoint on the bridge is made of."""
    owner = f"endpoint{number}"
    mac = f"02:00:00:00:00:{number:02x}"
    host_name = f"nd{number:04x}"
    return [
        Veth(
            owner=owner,
            name=host_name,
            mtu=1450,
            master="nd-blue",
            peer_ns=ns,
            peer_name=name,
            peer_mac=mac,
        ),
        VethPeer(ns=ns, owner=owner, name=name, mtu=1450, mac=mac),
        Loopback(ns=ns),
        Address(ns=ns, owner=owner, link=name, address=f"10.20.0.{number}/24"),
        Address(ns=ns, owner=owner, link=name, address=f"fd00:20::{number}/64"),
        Route(ns=ns, owner=owner, destination="0.0.0.0/0", link=name, gateway="10.20.0.1"),
        Route(ns=ns, owner=owner, destination="::/0", link=name, gateway="fd00:20::1"),
    ]


def network() -> list[Object]:
    return [
        bridge(),
        Address(owner="net1", link="nd-blue", address="10.20.0.1/24"),
        Address(owner="net1", link="nd-blue", address="fd00:20::1/64"),
    ]


def ip(*words: str, box: Container | None = None) -> Any:
    command = ("ip", "-json", "-details", *words)
    return json.loads(box.run(*command) if box else run(*command))


def test_an_endpoint_is_made_observed_and_can_be_reached(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    wanted = state_of([*network(), *endpoint(kernel.add_sandbox(box))])
    kernel.make(*wanted.values())
    seen = kernel.observe(wanted)
    assert render(seen.state) == render(wanted)
    assert diff(wanted, seen.state) == []
    assert not seen.foreign
    assert not seen.missing
    run("ping", "-c1", "-W2", "10.20.0.2")
    run("ping", "-c1", "-W2", "fd00:20::2")
    box.run("ping", "-c1", "-W2", "fd00:20::1")


def test_two_containers_reach_each_other(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    first, second = container(), container()
    kernel.make(*network(), *endpoint(kernel.add_sandbox(first), 2))
    kernel.make(*endpoint(kernel.add_sandbox(second), 3))
    first.run("ping", "-c1", "-W2", "10.20.0.3")
    second.run("ping", "-c1", "-W2", "fd00:20::2")


def test_addresses_are_usable_at_once(kernel: Kernel, container: Callable[[], Container]) -> None:
    box = container()
    kernel.make(*network(), *endpoint(kernel.add_sandbox(box)))
    (link,) = ip("address", "show", "dev", "eth0", box=box)
    by_scope = {(found["family"], found["scope"]): found for found in link["addr_info"]}
    assert by_scope["inet", "global"]["broadcast"] == "10.20.0.255"
    assert not by_scope["inet6", "global"].get("tentative")
    (gateway,) = ip("-6", "address", "show", "dev", "nd-blue", "scope", "global")
    assert not gateway["addr_info"][0].get("tentative")


def test_links_are_tagged_and_ports_have_no_address(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    kernel.make(*network(), *endpoint(kernel.add_sandbox(container())))
    (port,) = ip("address", "show", "dev", "nd0002")
    assert port["ifalias"] == "netd:1:endpoint2"
    assert port["group"] == str(tag.LINK_GROUP)
    assert port["addr_info"] == []
    assert port["mtu"] == 1450
    assert port["master"] == "nd-blue"
    (link,) = ip("link", "show", "dev", "nd-blue")
    assert link["ifalias"] == "netd:1:net1"
    (port,) = ip("link", "show", "dev", "nd0002")
    assert port["inet6_addr_gen_mode"] == "none"
    data = link["linkinfo"]["info_data"]
    quiet = ("stp_state", "forward_delay", "mcast_snooping", "nf_call_iptables")
    assert [data[name] for name in (*quiet, "nf_call_ip6tables", "nf_call_arptables")] == [0] * 6


def test_links_that_come_to_have_ipv6_by_their_mtu_get_no_address_of_the_kernels(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    ns = kernel.add_sandbox(box)

    def wanted(mtu: int) -> State:
        veth, peer, loopback, address, *_ = endpoint(ns)
        small = [structs.replace(link, mtu=mtu) for link in (bridge(), veth, peer)]
        deaf = [
            *deaf_to_routers(ns="", owner="net1", link="nd-blue", mtu=mtu),
            *deaf_to_routers(ns=ns, owner="endpoint2", link="eth0", mtu=mtu),
        ]
        return state_of([*small, loopback, address, *deaf])

    kernel.make(*wanted(1000).values())
    kernel.converge(wanted(1450))
    for name, place in (("nd-blue", None), ("nd0002", None), ("eth0", box)):
        (link,) = ip("address", "show", "dev", name, box=place)
        assert [each for each in link["addr_info"] if each["family"] == "inet6"] == []
        (link,) = ip("link", "show", "dev", name, box=place)
        assert link["inet6_addr_gen_mode"] == "none"
    (link,) = ip("address", "show", "dev", "eth0", box=box)
    assert [each["local"] for each in link["addr_info"]] == ["10.20.0.2"]
    assert "[]" in box.run("ip", "-6", "-json", "route", "show", "dev", "eth0", "proto", "kernel")


@pytest.mark.parametrize("mtu", [1450, 1500, 9000])
def test_a_bridge_keeps_its_mtu_when_its_last_port_leaves(
    kernel: Kernel, container: Callable[[], Container], mtu: int
) -> None:
    objects = endpoint(kernel.add_sandbox(container()))
    objects[0] = structs.replace(objects[0], mtu=mtu)
    wanted = state_of([bridge(mtu=mtu)])
    kernel.make(*wanted.values(), *objects)
    assert diff(wanted, kernel.observe(wanted).state, owners={"net1"}) == []
    assert kernel.run("delete", objects[0]) == []
    assert diff(wanted, kernel.observe(wanted).state) == []


def test_creation_is_idempotent(kernel: Kernel, container: Callable[[], Container]) -> None:
    objects = [
        *network(),
        *endpoint(kernel.add_sandbox(container())),
        Rule(source="10.9.0.0/16", table=1000, priority=9, link="nd-blue"),
        Ifb(name="ndi0002", owner="endpoint2"),
    ]
    kernel.make(*objects)
    kernel.make(*objects)
    wanted = state_of(objects)
    assert diff(wanted, kernel.observe(wanted).state) == []


def test_deletion_is_idempotent(kernel: Kernel, container: Callable[[], Container]) -> None:
    objects = [*network(), *endpoint(kernel.add_sandbox(container()))]
    backwards = objects[::-1]
    kernel.make(*objects)
    assert kernel.run("delete", *backwards) == []
    assert kernel.run("delete", *backwards) == []
    assert kernel.run("retire", *backwards) == []
    assert kernel.observe(state_of(objects)).state.keys() <= {o.key for o in objects[-5:-4]}
    assert "nd" not in run("ip", "-o", "link")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("ip link delete nd-blue", "add link nd-blue"),
        ("ip link set nd0002 nomaster", "change link nd0002"),
        ("ip link set nd0002 down", "change link nd0002"),
        ("ip link set nd0002 mtu 1300", "change link nd0002"),
        ("ip link set nd-blue alias netd:1:other", "change link nd-blue"),
        ("ip link set nd0002 alias mine", "change link nd0002"),
        ("ip link set nd-blue address 02:00:00:00:00:99", "change link nd-blue"),
        ("sysctl -w net.ipv4.conf.nd-blue.route_localnet=1", "change link nd-blue"),
        ("bridge link set dev nd0002 hairpin on", "change link nd0002"),
        ("ip link delete nd0002", "add link nd0002"),
        ("ip address delete 10.20.0.1/24 dev nd-blue", "add address 10.20.0.1/24"),
        ("IN ip link set eth0 down", "change link eth0"),
        ("IN ip link set eth0 address 02:00:00:00:00:98", "change link eth0"),
        ("IN ip link set lo down", "change link lo"),
        ("IN ip address flush dev eth0", "add address 10.20.0.2/24"),
        ("IN ip route delete default", "add route 0.0.0.0/0"),
        ("IN ip -6 route replace default via fd00:20::7 metric 1024", "change route ::/0"),
        ("IN ip route replace default via 10.20.0.7", "change route 0.0.0.0/0"),
        ("IN ip route add 10.99.0.0/16 via 10.20.0.1 proto 110", "delete route 10.99.0.0/16"),
        ("IN ip link set eth0 down && ip link set eth0 name eth9", "change link nd0002"),
    ],
)
def test_damage_is_seen_and_repaired(
    kernel: Kernel, container: Callable[[], Container], damage: str, expected: str
) -> None:
    box = container()
    wanted = state_of([*network(), *endpoint(kernel.add_sandbox(box))])
    kernel.make(*wanted.values())
    if damage.startswith("IN "):
        box.run("sh", "-c", damage.removeprefix("IN "))
    else:
        run("sh", "-c", damage)
    done = [operation.text() for operation in kernel.converge(wanted)]
    assert any(text.startswith(expected) for text in done), done
    box.run("ping", "-c1", "-W2", "10.20.0.1")
    box.run("ping", "-c1", "-W2", "fd00:20::1")


def test_a_retired_endpoint_is_cut_off_at_once(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    objects = [*network(), *endpoint(kernel.add_sandbox(box)), Ifb(name="ndi2", owner="endpoint2")]
    kernel.make(*objects)
    box.run("ping", "-c1", "-W2", "10.20.0.1")
    assert kernel.run("retire", objects[-1], objects[3]) == []
    box.run("ip", "link", "set", "eth0", "down")
    box.run("ip", "link", "set", "eth0", "up")
    assert "LOWER_UP" not in box.run("ip", "-o", "link", "show", "eth0")
    assert "100% packet loss" in run("ping", "-c1", "-W1", "10.20.0.2", check=False)
    seen = kernel.observe(state_of(objects))
    assert seen.retired == 2
    assert objects[3].key not in seen.state
    assert objects[4].key not in seen.state
    kernel.reap()
    assert kernel.observe().retired == 0
    assert "eth0" not in box.run("ip", "-o", "link")
    assert "nd-blue" in run("ip", "-o", "link")


def test_a_retired_pair_gives_way_to_a_new_one(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    """Both when the name on the host is the same and when only that in the container is."""
    box = container()
    ns = kernel.add_sandbox(box)
    for number in (2, 2, 3):
        objects = [*network(), *endpoint(ns, number)]
        kernel.make(*objects)
        box.run("ping", "-c1", "-W2", "10.20.0.1")
        assert kernel.run("retire", objects[3]) == []


def test_foreign_links_are_never_touched(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    run("ip", "link", "add", "nd-blue", "type", "bridge")
    run("ip", "link", "add", "nd0002", "type", "ifb")
    before = run("ip", "-d", "link")
    objects = [*network(), *endpoint(kernel.add_sandbox(container())), Ifb(name="nd0002")]
    links = [obj for obj in objects if isinstance(obj, Bridge | Veth | Ifb)]
    for verb, expected in (
        ("add", errno.EEXIST),
        ("change", errno.EPERM),
        ("retire", errno.EPERM),
        ("delete", errno.EPERM),
    ):
        failures = kernel.run(verb, links[0], links[2])  # type: ignore[arg-type]
        assert [failure.errno for failure in failures] == [expected] * 2
        assert "netd" in failures[0].message
    assert run("ip", "-d", "link") == before
    seen = kernel.observe(state_of(objects))
    assert seen.foreign >= {links[0].key, links[2].key}
    assert seen.state.keys().isdisjoint(seen.foreign)


def test_a_netd_in_a_container_does_not_take_its_own_link_for_one_it_made(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    kernel.make(*network(), *endpoint(kernel.add_sandbox(box)))
    inner = kernel.namespaces.open(*kernel.sandboxes.values())
    assert inner is not None
    links = {link.name: link for link in inner.socket.dump(LINKS)}
    inner.close()
    assert not links["eth0"].ours
    assert links["eth0"].is_guest


def test_a_container_may_remove_the_mark_of_its_link(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    wanted = state_of([*network(), *endpoint(kernel.add_sandbox(box))])
    kernel.make(*wanted.values())
    box.run("ip", "link", "set", "eth0", "group", "0")
    box.run("ip", "address", "flush", "dev", "eth0")
    assert kernel.converge(wanted)
    box.run("ping", "-c1", "-W2", "10.20.0.1")


def test_an_observation_explains_namespace_ids(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    kernel.make(*network())
    for number in (2, 3):
        kernel.make(*endpoint(kernel.add_sandbox(container()), number))
    assert sorted(kernel.observe().nsids.values(), key=sorted) == [{"nd0002"}, {"nd0003"}]


def test_what_is_left_on_a_retired_pair_is_nobodys(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    """Its routes stay until it is removed; to remove them is no repair."""
    ns = kernel.add_sandbox(container())
    stays = [*network(), *endpoint(ns)]
    goes = endpoint(ns, 3, "eth1")
    own_table = Route(ns=ns, destination="0.0.0.0/0", link="eth1", gateway="10.20.0.1", table=500)
    kernel.make(*stays, *(obj for obj in goes if not isinstance(obj, Route)), own_table)
    wanted = state_of(stays)
    assert own_table.key in kernel.observe(wanted).state
    assert kernel.run("retire", goes[0]) == []
    seen = kernel.observe(wanted)
    assert seen.retired == 1
    assert diff(wanted, seen.state) == []


def test_a_macvlan_that_an_earlier_netd_made_is_heard_once_it_was_looked_at(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    ns = kernel.add_sandbox(box)
    run("ip", "link", "add", "up0", "type", "bridge")
    run("ip", "link", "add", "eth0", "link", "up0", "netns", str(box.pid), "type", "macvlan")
    assert "nsid" not in run("ip", "netns", "list-id")
    wanted = Macvlan(ns=ns, owner="e1", name="eth0", parent="up0", mode="bridge", mac=None)
    for _ in range(2):
        kernel.observe(state_of([wanted]))
        assert run("ip", "netns", "list-id").count("nsid") == 1


def test_routes_that_differ_in_their_metric_are_two(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    ns = kernel.add_sandbox(box)
    objects = [*network(), *endpoint(ns)]
    for destination, gateway in (("0.0.0.0/0", "10.20.0.1"), ("::/0", "fd00:20::1")):
        objects.append(
            Route(ns=ns, destination=destination, link="eth0", gateway=gateway, metric=2048)
        )
    wanted = state_of(objects)
    kernel.converge(wanted)
    assert box.run("ip", "-6", "route").count("default") == 2
    fewer = state_of(objects[:-2])
    done = [operation.text() for operation in kernel.converge(fewer)]
    assert len(done) == 2
    assert "metric 2048" in done[0]


def test_a_hairpin_port_from_its_creation(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    objects = [*network(), *endpoint(kernel.add_sandbox(container()))]
    veth = objects[3]
    assert isinstance(veth, Veth)
    objects[3] = structs.replace(veth, hairpin=True)
    wanted = state_of(objects)
    kernel.make(*objects)
    assert diff(wanted, kernel.observe(wanted).state) == []
    assert "hairpin on" in run("bridge", "-d", "link", "show", "dev", "nd0002")


def test_a_foreign_link_in_a_container_is_reported(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    ns = kernel.add_sandbox(box)
    box.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    objects = [*network(), *endpoint(ns)]
    failures = kernel.apply(creation(objects, "test"))
    assert failures[0].errno == errno.EEXIST
    assert isinstance(failures[0].operation.object, Veth)
    seen = kernel.observe(state_of(objects))
    assert objects[4].key in seen.foreign
    assert "nd0002" not in run("ip", "-o", "link")


def test_failures_name_what_is_missing(kernel: Kernel, container: Callable[[], Container]) -> None:
    ns = kernel.add_sandbox(container())
    failures = kernel.apply(creation(endpoint(ns), "test"))
    assert failures[0].errno == errno.ENODEV
    assert "nd-blue" in failures[0].message
    assert "eth0" in failures[-1].text()
    failures = kernel.run("add", Address(link="nd-none", address="10.0.0.1/24"))
    assert [failure.errno for failure in failures] == [errno.ENODEV]


def test_goes_on_after_a_failure_and_gives_the_kernels_words(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    ns = kernel.add_sandbox(container())
    kernel.make(*network(), *endpoint(ns))
    bad = Route(ns=ns, destination="10.99.0.0/16", link="eth0", gateway="192.0.2.1")
    good = Route(ns=ns, destination="10.98.0.0/16", link="eth0", gateway="10.20.0.1")
    (failure,) = kernel.run("add", bad, good)
    assert failure.operation.object is bad
    assert failure.errno == errno.ENETUNREACH
    assert "Nexthop has invalid gateway" in failure.message
    assert good.key in kernel.observe(state_of([good])).state


def test_a_vanished_namespace(kernel: Kernel, container: Callable[[], Container]) -> None:
    box = container()
    ns = kernel.add_sandbox(box)
    objects = [*network(), *endpoint(ns)]
    kernel.make(*network())
    box.kill()
    failures = kernel.apply(creation(endpoint(ns), "test"))
    assert {failure.errno for failure in failures} == {errno.ENOENT}
    assert len(failures) == len(endpoint(ns))
    assert kernel.run("delete", *reversed(endpoint(ns))) == []
    seen = kernel.observe(state_of(objects))
    assert seen.missing == {ns}
    assert not seen.foreign


def test_ipv6_is_switched_on_where_a_runtime_switched_it_off(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    box.run("sysctl", "-w", "net.ipv6.conf.default.disable_ipv6=1")
    wanted = state_of([*network(), *endpoint(kernel.add_sandbox(box))])
    kernel.make(*wanted.values())
    assert diff(wanted, kernel.observe(wanted).state) == []
    assert "= 1" in box.run("sysctl", "net.ipv6.conf.default.disable_ipv6")
    box.run("ping", "-c1", "-W2", "fd00:20::1")


def test_route_localnet(kernel: Kernel) -> None:
    wanted = state_of([bridge(route_localnet=True)])
    kernel.make(*wanted.values())
    assert "= 1" in run("sysctl", "net.ipv4.conf.nd-blue.route_localnet")
    assert diff(wanted, kernel.observe(wanted).state) == []
    (operation,) = kernel.converge(state_of([bridge()]))
    assert operation.verb == "change"
    assert "= 0" in run("sysctl", "net.ipv4.conf.nd-blue.route_localnet")


def test_macvlan_with_a_shim(kernel: Kernel, container: Callable[[], Container]) -> None:
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "far")
    run("ip", "link", "set", "up0", "up")
    run("ip", "link", "set", "far", "up")
    box = container()
    ns = kernel.add_sandbox(box)
    shim = Macvlan(
        owner="net1", name="ndm-lan", parent="up0", mode="bridge", mac="02:00:00:00:01:01", mtu=1500
    )
    link = Macvlan(
        ns=ns, owner="ep", name="eth0", parent="up0", mode="bridge", mac="02:00:00:00:01:02"
    )
    wanted = state_of(
        [
            shim,
            link,
            Loopback(ns=ns),
            Address(owner="net1", link="ndm-lan", address="10.30.0.1/32"),
            Address(ns=ns, owner="ep", link="eth0", address="10.30.0.2/24"),
            Route(owner="ep", destination="10.30.0.2/32", link="ndm-lan", source="10.30.0.1"),
        ]
    )
    kernel.make(*wanted.values())
    assert render(kernel.observe(wanted).state) == render(wanted).replace("None", "1500")
    run("ping", "-c1", "-W2", "10.30.0.2")
    for verb in ("retire", "delete"):
        assert kernel.run(verb, link) == []
        assert "eth0" not in box.run("ip", "-o", "link")
    kernel.converge(wanted)
    run("ping", "-c1", "-W2", "10.30.0.2")
    other_mode = state_of([*wanted.values(), structs.replace(link, mode="private")])
    assert kernel.apply(diff(other_mode, kernel.observe(other_mode).state)) == []
    kernel.converge(other_mode)  # what was on the link went with it
    (found,) = ip("link", "show", "dev", "eth0", box=box)
    assert found["linkinfo"]["info_data"]["mode"] == "private"


def test_a_macvlan_has_the_name_of_its_parent(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far")
    ns = kernel.add_sandbox(container())
    link = Macvlan(ns=ns, owner="ep", name="eth0", parent="eth0", mode="bridge", mac=None)
    wanted = state_of([link])
    kernel.make(link)
    assert diff(wanted, kernel.observe(wanted).state) == []
    assert kernel.run("delete", link) == []
    (parent,) = ip("link", "show", "dev", "eth0")
    assert parent["linkinfo"]["info_kind"] == "veth"
    kernel.converge(wanted)


def test_ipvlan_is_made_or_refused_by_name(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "far")
    ns = kernel.add_sandbox(container())
    link = Macvlan(ns=ns, owner="ep", name="eth0", kind="ipvlan", parent="up0", mode="l3", mac=None)
    failures = kernel.run("add", link)
    if failures:
        assert failures[0].errno == errno.EOPNOTSUPP
    else:
        found = kernel.observe(state_of([link])).state
        assert diff(state_of([link]), found) == []


def test_rules_and_tables(kernel: Kernel, container: Callable[[], Container]) -> None:
    box = container()
    ns = kernel.add_sandbox(box)
    rules = [
        Rule(ns=ns, owner="ep", source="10.20.0.2/32", table=1000, priority=100, link="eth0"),
        Rule(ns=ns, owner="ep", source="fd00:20::2/128", table=1000, priority=100, link="eth0"),
    ]
    far = Route(
        ns=ns, owner="ep", destination="0.0.0.0/0", link="eth0", gateway="10.20.0.1", table=1000
    )
    wanted = state_of([*network(), *endpoint(ns), *rules, far])
    kernel.make(*wanted.values())
    assert render(kernel.observe(wanted).state) == render(wanted)
    changed = structs.replace(rules[0], priority=101)
    kernel.converge(state_of([*wanted.values(), changed]))
    assert box.run("ip", "rule").count("lookup 1000") == 1
    leftover = {key: obj for key, obj in wanted.items() if obj is not rules[1]}
    done = [operation.text() for operation in kernel.converge(state_of([*leftover.values()]))]
    assert any(text.startswith("change rule from 10.20.0.2/32") for text in done)


def test_a_foreign_route_is_not_removed(kernel: Kernel) -> None:
    kernel.make(*network())
    run("ip", "route", "add", "10.77.0.0/16", "via", "10.20.0.9")
    theirs = Route(owner="net1", destination="10.77.0.0/16", link="nd-blue", gateway="10.20.0.9")
    assert kernel.run("delete", theirs) == []
    assert "10.77.0.0/16" in run("ip", "route")
    assert theirs.key not in kernel.observe(state_of(network())).state
    assert theirs.key in kernel.observe(state_of([*network(), theirs])).state


def test_sysctls_are_those_of_the_namespace(
    kernel: Kernel, container: Callable[[], Container]
) -> None:
    box = container()
    ns = kernel.add_sandbox(box)
    wanted = state_of(
        [
            Sysctl(name="net/ipv4/ip_forward", value="1"),
            Sysctl(ns=ns, owner="ep", name="net/ipv4/ip_unprivileged_port_start", value="80"),
        ]
    )
    kernel.make(*wanted.values())
    assert diff(wanted, kernel.observe(wanted).state) == []
    assert "= 1024" in run("sysctl", "net.ipv4.ip_unprivileged_port_start")
    assert "= 80" in box.run("sysctl", "net.ipv4.ip_unprivileged_port_start")
    (failure,) = kernel.run("add", Sysctl(name="net/ipv4/no_such", value="1"))
    assert failure.errno == errno.ENOENT


def test_many_containers_in_one_plan(kernel: Kernel, container: Callable[[], Container]) -> None:
    """More than may be open at the same time, in the order in which the reconciler sorts."""
    boxes = [container() for _ in range(80)]
    objects = network()
    for number, box in enumerate(boxes, 2):
        objects += endpoint(kernel.add_sandbox(box), number)
    wanted = state_of(objects)
    kernel.converge(wanted)
    boxes[-1].run("ping", "-c1", "-W2", "10.20.0.2")
