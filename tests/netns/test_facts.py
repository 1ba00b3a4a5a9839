"""What is found out about the host, compared with what was set up and with ip(8)."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2.netlink import NETLINK_NETFILTER

from netd.kernel import capabilities
from netd.kernel.facts import nameservers, observe_facts
from netd.kernel.netlink import NetlinkSocket
from netd.plan.facts import AddressFact, Facts, RouteFact
from tests.netns.conftest import Container, run


@pytest.fixture
def rtnl() -> Iterator[NetlinkSocket]:
    with NetlinkSocket() as made:
        yield made


def observe(rtnl: NetlinkSocket) -> Facts:
    return observe_facts(rtnl, "node-a")


def test_an_empty_host(rtnl: NetlinkSocket) -> None:
    facts = observe(rtnl)
    assert facts.node == "node-a"
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.kernel == os.uname().release
    assert [link.name for link in facts.links] == ["lo"]
    assert AddressFact(link="lo", address="127.0.0.1/8", scope="host") in facts.addresses
    assert AddressFact(link="lo", address="::1/128", scope="host") in facts.addresses
    assert facts.routes == ()
    assert facts.foreign_chains == ()
    assert facts.uplinks() == ()


def test_links_with_kind_master_and_tag(
    rtnl: NetlinkSocket, container: Callable[[], Container]
) -> None:
    pid = str(container().pid)
    run("ip", "link", "add", "br0", "address", "02:00:00:00:00:01", "up", "type", "bridge")
    run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", pid)
    run("ip", "link", "set", "v0", "master", "br0", "mtu", "1400")
    run("ip", "link", "set", "v0", "alias", "netd:1:0123456789abcdef")
    run("ip", "link", "add", "i0", "group", "28260", "type", "ifb")
    facts = observe(rtnl)
    bridge, veth, ifb, lo = (facts.link(name) for name in ("br0", "v0", "i0", "lo"))
    assert bridge is not None
    assert veth is not None
    assert ifb is not None
    assert lo is not None
    assert (bridge.kind, bridge.mac, bridge.up) == ("bridge", "02:00:00:00:00:01", True)
    assert (veth.kind, veth.master, veth.mtu, veth.up) == ("veth", "br0", 1400, False)
    assert [link.name for link in facts.links if link.ours] == ["v0", "i0"]
    assert (lo.kind, lo.master, lo.wireless) == ("", None, False)
    assert veth.index == socket.if_nametoindex("v0")


def test_addresses_have_the_scope_that_ip_shows(rtnl: NetlinkSocket) -> None:
    run("ip", "link", "add", "i0", "up", "type", "ifb")
    run("ip", "address", "add", "10.77.0.1/24", "dev", "i0")
    run("ip", "address", "add", "10.77.9.1/32", "scope", "link", "dev", "i0")
    run("ip", "address", "add", "10.77.8.1", "peer", "10.77.8.2", "dev", "i0")
    run("ip", "address", "add", "fd77::1/64", "dev", "i0")
    shown = {
        (link["ifname"], address["local"], address["scope"])
        for link in json.loads(run("ip", "-j", "address"))
        for address in link["addr_info"]
    }
    found = observe(rtnl).addresses
    assert {(a.link, a.address.partition("/")[0], a.scope) for a in found} == shown
    assert AddressFact(link="i0", address="10.77.0.1/24", scope="global") in found
    assert AddressFact(link="i0", address="10.77.9.1/32", scope="link") in found


def test_routes_of_all_tables_that_a_subnet_could_overlap(rtnl: NetlinkSocket) -> None:
    run("ip", "link", "add", "i0", "up", "type", "ifb")
    run("ip", "address", "add", "10.77.0.1/24", "dev", "i0")
    run("ip", "-6", "address", "add", "fd77::1/64", "dev", "i0", "nodad")
    run("ip", "route", "add", "default", "via", "10.77.0.254", "metric", "7")
    run("ip", "route", "add", "10.8.0.0/16", "dev", "i0", "table", "51820", "proto", "110")
    run("ip", "-6", "route", "add", "fd99::/48", "via", "fd77::2", "table", "52")
    run("ip", "route", "add", "192.0.2.0/24", "nexthop", "via", "10.77.0.3", "nexthop", "dev", "i0")
    run("ip", "route", "add", "224.1.0.0/16", "dev", "i0")
    run("ip", "route", "add", "unreachable", "198.51.100.0/24")
    facts = observe(rtnl)
    routes = {route.destination: route for route in facts.routes}
    assert routes.keys() == {
        "0.0.0.0/0",
        "10.77.0.0/24",
        "10.8.0.0/16",
        "192.0.2.0/24",
        "fd77::/64",
        "fd99::/48",
    }
    assert routes["0.0.0.0/0"] == RouteFact(
        destination="0.0.0.0/0", link="i0", gateway="10.77.0.254", protocol=3, metric=7
    )
    assert (routes["10.8.0.0/16"].table, routes["10.8.0.0/16"].protocol) == (51820, 110)
    assert (routes["fd99::/48"].table, routes["fd99::/48"].gateway) == (52, "fd77::2")
    assert routes["192.0.2.0/24"].link == "i0"
    assert [link.name for link in facts.uplinks()] == ["i0"]


def test_settings_that_matter(rtnl: NetlinkSocket) -> None:
    run("ip", "link", "add", "i0.5", "up", "type", "ifb")
    run("ip", "-6", "address", "add", "fd77::1/64", "dev", "i0.5", "nodad")
    run("ip", "-6", "route", "add", "default", "via", "fd77::2")
    run("sysctl", "-w", "net/ipv6/conf/i0.5/accept_ra=2")
    run("sysctl", "-w", "net/ipv4/ip_forward=1")
    sysctls = observe(rtnl).sysctls
    assert sysctls["net/ipv4/ip_forward"] == "1"
    assert sysctls["net/ipv6/conf/all/forwarding"] == "0"
    assert sysctls["net/ipv6/conf/i0.5/accept_ra"] == "2"
    assert "net/ipv4/conf/all/rp_filter" in sysctls
    assert "net/ipv6/conf/lo/accept_ra" not in sysctls
    bridge = "net/bridge/bridge-nf-call-iptables"
    assert (bridge in sysctls) == Path("/proc/sys", bridge).exists()


# Name servers


def test_name_servers_are_read_in_order(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(
        "# nameserver 192.0.2.9\nsearch example.org\nnameserver 192.0.2.1\n"
        "nameserver fe80::1%eth0\nnameserver\t192.0.2.1\nnameserver nonsense\nnameserver\n"
    )
    assert nameservers(conf, tmp_path / "none") == ("192.0.2.1", "fe80::1%eth0")


def test_servers_behind_a_local_stub_are_preferred(tmp_path: Path) -> None:
    stub, behind = tmp_path / "stub", tmp_path / "behind"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    behind.write_text("nameserver 192.0.2.1\nnameserver 2001:db8::1\n")
    assert nameservers(stub, behind) == ("192.0.2.1", "2001:db8::1")
    assert nameservers(stub, tmp_path / "none") == ("127.0.0.53",)
    stub.write_text("nameserver 127.0.0.1\nnameserver 192.0.2.7\n")
    assert nameservers(stub, behind) == ("127.0.0.1", "192.0.2.7")


def test_no_resolv_conf_means_no_servers(tmp_path: Path) -> None:
    assert nameservers(tmp_path / "none", tmp_path / "neither") == ()


# Capabilities


@pytest.mark.parametrize("kind", ["bridge", "ifb", "macvlan", "ipvlan", "veth", "vxlan"])
def test_a_kind_of_link_is_named_exactly_when_ip_can_make_one(kind: str) -> None:
    run("ip", "link", "add", "base", "type", "veth", "peer", "name", "other")
    options = {
        "macvlan": ("link", "base", "type", "macvlan"),
        "ipvlan": ("link", "base", "type", "ipvlan"),
        "vxlan": ("type", "vxlan", "id", "7", "dstport", "4789"),
    }
    run("ip", "link", "add", "tried", *options.get(kind, ("type", kind)), check=False)
    made = '"tried"' in run("ip", "-j", "link")
    assert (kind in capabilities.probe()) == made


def test_limits_and_nat_are_named_exactly_when_the_tools_can_make_them() -> None:
    found = capabilities.probe()
    run("ip", "link", "add", "tried", "type", "ifb")
    tbf = ("tbf", "rate", "1mbit", "burst", "20kb", "latency", "50ms")
    run("tc", "qdisc", "add", "dev", "tried", "root", *tbf, check=False)
    assert ("tbf" in found) == ("tbf" in run("tc", "qdisc", "show", "dev", "tried"))
    nat = "table inet t { chain c { type nat hook prerouting priority 0; }; }"
    run("nft", nat, check=False)
    assert ("nft" in found) == ("type nat" in run("nft", "list", "ruleset"))


def test_a_chain_type_that_the_kernel_lacks_is_refused_in_a_dry_run() -> None:
    with NetlinkSocket(NETLINK_NETFILTER) as netfilter:
        messages = capabilities.nat_chain()
        assert netfilter.send(messages) == {}
        assert run("nft", "list", "ruleset") == "", "a dry run must leave nothing"
        wrong = messages[-1]._replace(payload=messages[-1].payload.replace(b"nat\0", b"tan\0"))
        assert netfilter.send([*messages[:-1], wrong]).keys() == {2}


def test_probing_leaves_the_host_as_it_was() -> None:
    def host() -> tuple[str, str, Path]:
        namespace = Path("/proc/thread-self/ns/net").readlink()
        return run("ip", "link"), run("nft", "list", "ruleset"), namespace

    before = host()
    capabilities.probe.cache_clear()
    assert "veth" in capabilities.probe()
    assert host() == before
