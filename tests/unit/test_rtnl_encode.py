"""rtnetlink requests: what another implementation reads in them, and some byte by byte."""

from typing import Any

import pytest
from msgspec.structs import replace
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netd.kernel import rtnl_encode as encode
from netd.kernel import tag, uapi
from netd.kernel.attributes import u32
from netd.kernel.netlink import Message
from netd.plan.objects import Address, Bridge, Ifb, Loopback, Macvlan, Route, Rule, Veth, VethPeer

VETH = Veth(
    owner="ep1",
    name="nd0001",
    mtu=1450,
    master="nd-blue",
    peer_ns="net:[1]",
    peer_name="eth0",
    peer_mac="02:00:00:00:00:02",
)
BRIDGE = Bridge(owner="net1", name="nd-blue", mac="02:00:00:00:00:01", mtu=1450)


def read(message: Message, kind: type[Any]) -> Any:
    """`message` as pyroute2 decodes it."""
    header = uapi.NLMSGHDR.pack(16 + len(message.payload), message.type, message.flags, 1, 0)
    decoded = kind(header + message.payload)
    decoded.decode()
    return decoded


def test_bridge() -> None:
    seen = read(encode.new_bridge(BRIDGE), ifinfmsg)
    assert seen["header"]["type"] == uapi.RTM_NEWLINK
    assert seen["header"]["flags"] == uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
    assert (seen["flags"], seen["change"]) == (0, uapi.IFF_UP)  # up only when it is finished
    assert seen.get("ifname") == "nd-blue"
    assert seen.get("address") == "02:00:00:00:00:01"
    assert seen.get("group") == tag.LINK_GROUP
    assert seen.get("mtu") is None  # it would not keep that one
    assert seen.get(("linkinfo", "kind")) == "bridge"
    for name in ("br_forward_delay", "br_stp_state", "br_mcast_snooping", "br_nf_call_iptables"):
        assert seen.get(("linkinfo", "data", name)) == 0


def test_veth_and_its_peer() -> None:
    seen = read(encode.new_veth(VETH, master=7, peer_netns=42), ifinfmsg)
    assert (seen.get("ifname"), seen.get("mtu"), seen.get("master")) == ("nd0001", 1450, 7)
    assert (seen.get("num_tx_queues"), seen.get("num_rx_queues")) == (1, 1)
    assert seen["flags"] == 0
    assert seen.get(("linkinfo", "kind")) == "veth"
    peer = seen.get(("linkinfo", "data", "veth_info_peer"))
    assert peer.get("ifname") == "eth0"
    assert peer.get("address") == "02:00:00:00:00:02"
    assert peer.get("mtu") == 1450
    assert peer.get("net_ns_fd") == 42
    assert peer.get("group") == tag.GUEST_GROUP
    assert peer["flags"] == 0


def test_veth_without_a_master() -> None:
    assert read(encode.new_veth(VETH, master=None, peer_netns=3), ifinfmsg).get("master") is None


@pytest.mark.parametrize(("mode", "number"), encode.MACVLAN_MODES.items())
def test_macvlan(mode: str, number: int) -> None:
    link = Macvlan(ns="net:[1]", name="eth0", parent="up0", mode=mode, mac="02:00:00:00:00:03")
    seen = read(encode.new_macvlan(link, parent=9, netns=5), ifinfmsg)
    assert (seen.get("link"), seen.get("net_ns_fd")) == (9, 5)
    assert seen.get("group") == tag.GUEST_GROUP
    assert seen.get(("linkinfo", "kind")) == "macvlan"
    data = u32(uapi.IFLA_MACVLAN_MODE, number)
    assert data in encode.new_macvlan(link, parent=9, netns=5).payload
    assert seen["index"] == 0
    assert read(encode.new_macvlan(link, parent=9, netns=5, index=7), ifinfmsg)["index"] == 7


def test_ipvlan_and_ifb() -> None:
    link = Macvlan(name="nd-shim", kind="ipvlan", parent="up0", mode="l3", mac=None)
    seen = read(encode.new_macvlan(link, parent=9, netns=None), ifinfmsg)
    assert seen.get(("linkinfo", "kind")) == "ipvlan"
    assert seen.get(("linkinfo", "data", "ipvlan_mode")) == 1
    assert (seen.get("address"), seen.get("net_ns_fd")) == (None, None)
    ifb = read(encode.new_ifb(Ifb(name="ndi1")), ifinfmsg)
    assert ifb.get(("linkinfo", "kind")) == "ifb"


def test_finishing_sets_alias_and_address_generation() -> None:
    seen = read(encode.finish_link(VETH), ifinfmsg)
    assert seen["header"]["type"] == uapi.RTM_SETLINK
    assert seen.get("ifalias") == "netd:1:ep1"
    assert seen.get(("af_spec", "af_inet6", "IFLA_INET6_ADDR_GEN_MODE")) == 1
    bridge = read(encode.finish_link(BRIDGE), ifinfmsg)
    assert (bridge.get("mtu"), bridge.get("ifalias")) == (1450, "netd:1:net1")


def test_change_names_the_link_by_index() -> None:
    seen = read(encode.change_link(VETH, 12, mac="02:00:00:00:00:01", master=0), ifinfmsg)
    assert seen["index"] == 12
    assert seen.get("ifname") is None
    assert (seen.get("master"), seen.get("group")) == (0, tag.LINK_GROUP)
    peer = VethPeer(ns="net:[1]", name="eth0", mtu=1400, mac="02:00:00:00:00:09", up=False)
    old = "02:00:00:00:00:01"
    inside = read(encode.change_link(peer, 3, mac=old, master=None), ifinfmsg)
    assert (inside.get("address"), inside.get("mtu")) == ("02:00:00:00:00:09", 1400)
    assert (inside["flags"], inside["change"]) == (0, uapi.IFF_UP)
    assert (inside.get("ifalias"), inside.get("group")) == (None, tag.GUEST_GROUP)
    same = read(encode.change_link(peer, 3, mac=peer.mac, master=None), ifinfmsg)
    assert same.get("address") is None  # setting it costs the link its neighbours


def test_retiring_takes_down_and_marks() -> None:
    seen = read(encode.retire_link(12), ifinfmsg)
    assert (seen["index"], seen["flags"], seen["change"]) == (12, 0, uapi.IFF_UP)
    assert seen.get("group") == tag.RETIRED_GROUP
    batch = read(encode.delete_retired_links(), ifinfmsg)
    assert batch["header"]["type"] == uapi.RTM_DELLINK
    assert (batch["index"], batch.get("group")) == (0, tag.RETIRED_GROUP)


def test_hairpin_is_a_setting_of_the_port() -> None:
    message = encode.set_port(replace(VETH, hairpin=True), 12)
    assert message.type == uapi.RTM_NEWLINK
    assert message.flags == 0
    seen = read(message, ifinfmsg)
    assert seen.get(("linkinfo", "slave_kind")) == "bridge"
    assert seen.get(("linkinfo", "slave_data", "IFLA_BRPORT_MODE")) == 1


@pytest.mark.parametrize(
    ("text", "broadcast"),
    [
        ("10.20.0.2/24", "10.20.0.255"),
        ("10.20.0.2/31", None),
        ("10.20.0.2/32", None),
        ("fd00:20::2/64", None),
    ],
)
def test_address(text: str, broadcast: str | None) -> None:
    address, _, length = text.partition("/")
    seen = read(encode.new_address(Address(link="eth0", address=text), 4), ifaddrmsg)
    assert (seen["index"], seen["prefixlen"]) == (4, int(length))
    assert seen.get("address") == seen.get("local") == address
    assert seen.get("broadcast") == broadcast
    assert bool(seen["flags"] & uapi.IFA_F_NODAD) == (":" in text)


def test_an_address_that_is_not_preferred() -> None:
    wanted = Address(link="eth0", address="fd00:20::2/64", preferred=False)
    seen = read(encode.new_address(wanted, 4), ifaddrmsg).get("cacheinfo")
    assert (seen["ifa_preferred"], seen["ifa_valid"]) == (0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (
            Route(destination="0.0.0.0/0", link="eth0", gateway="10.0.0.1"),
            {"dst_len": 0, "gateway": "10.0.0.1", "dst": None, "table": 254, "scope": 0},
        ),
        (
            Route(destination="10.1.0.0/16", link="eth0", source="10.0.0.2", metric=7),
            {"dst_len": 16, "dst": "10.1.0.0", "prefsrc": "10.0.0.2", "scope": 253, "priority": 7},
        ),
        (
            Route(destination="fd00::/8", link="eth0", gateway="fd01::1", table=1845493810),
            {"dst_len": 8, "dst": "fd00::", "table": 1845493810, "scope": 0, "priority": 1024},
        ),
    ],
)
def test_route(route: Route, expected: dict[str, Any]) -> None:
    seen = read(encode.new_route(route, 4), rtmsg)
    assert seen["proto"] == tag.PROTOCOL
    assert seen.get("oif") == 4
    for name, value in expected.items():
        in_header = name in ("dst_len", "scope")
        assert (seen[name] if in_header else seen.get(name)) == value, name
    assert encode.delete_route(route, 4).payload == encode.new_route(route, 4).payload
    assert encode.new_route(route, 4, replace=True).flags == uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE


def test_rule() -> None:
    rule = Rule(source="10.20.0.2/32", table=1000, priority=110, link="eth0")
    seen = read(encode.new_rule(rule), fibmsg)
    assert (seen["src_len"], seen["action"]) == (32, uapi.FR_ACT_TO_TBL)
    assert (seen.get("src"), seen.get("table"), seen.get("priority")) == ("10.20.0.2", 1000, 110)
    assert seen.get("protocol") == tag.PROTOCOL


def test_golden_bytes() -> None:
    """As `ip` sends them, attribute by attribute in netd's order."""
    up = encode.set_link(Loopback(ns="net:[1]"), index=1)
    assert up.payload.hex(" ", 4) == "00000000 01000000 01000000 01000000"
    address = encode.new_address(Address(link="eth0", address="10.20.0.2/24"), 5)
    assert address.payload.hex(" ", 4) == (
        "02188000 05000000 08000200 0a140002 08000100 0a140002 08000400 0a1400ff"
    )
    name = encode.set_link(Ifb(name="ndi01"))
    assert name.payload.hex(" ", 4) == (
        "00000000 00000000 01000000 01000000 0a000300 6e646930 31000000"
    )


@pytest.mark.parametrize("length", range(1, 16))
def test_payloads_are_padded(length: int) -> None:
    link = Ifb(name="n" * length, owner="o" * length)
    for message in (encode.new_ifb(link), encode.finish_link(link)):
        assert len(message.payload) % 4 == 0
        assert read(message, ifinfmsg).get("ifname") == link.name
