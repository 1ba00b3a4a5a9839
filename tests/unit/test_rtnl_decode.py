"""rtnetlink's answers: what is read is what another implementation has written."""

import errno
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netd.kernel import netlink, tag, uapi
from netd.kernel.netlink import Message, NetlinkError
from netd.kernel.rtnl_decode import (
    AddressInfo,
    RouteInfo,
    RuleInfo,
    decode_address,
    decode_link,
    decode_route,
    decode_rule,
)
from netd.kernel.tunnels_decode import Entry, TunnelInfo, decode_entry


def written(kind: type[Any], **values: Any) -> tuple[bytes, int, int]:
    """A message as pyroute2 encodes it, and where its payload begins and ends."""
    message = kind()
    message.update(values)
    message.encode()
    data = bytes(message.data)
    return data, uapi.NLMSGHDR.size, len(data)


def link(*attributes: Any, **header: Any) -> tuple[bytes, int, int]:
    return written(ifinfmsg, attrs=list(attributes), **header)


def test_veth_port() -> None:
    found = decode_link(
        *link(
            ["IFLA_IFNAME", "nd0001"],
            ["IFLA_MTU", 1450],
            ["IFLA_ADDRESS", "02:00:00:00:00:01"],
            ["IFLA_MASTER", 4],
            ["IFLA_LINK", 2],
            ["IFLA_LINK_NETNSID", 0],
            ["IFLA_GROUP", tag.LINK_GROUP],
            ["IFLA_IFALIAS", "netd:1:ep1"],
            ["IFLA_CARRIER", 1],
            ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "veth"]]}],
            index=7,
            flags=uapi.IFF_UP,
            ifi_type=1,
        )
    )
    assert (found.index, found.name, found.kind, found.mtu) == (7, "nd0001", "veth", 1450)
    assert (found.master, found.parent, found.netns_id) == (4, 2, 0)
    assert found.mac == "02:00:00:00:00:01"
    assert (found.up, found.carrier, found.arphrd) == (True, True, 1)
    assert (found.group, found.alias) == (tag.LINK_GROUP, "netd:1:ep1")
    assert found.ours
    assert not found.hairpin


def test_hardware_has_no_kind() -> None:
    found = decode_link(*link(["IFLA_IFNAME", "eth0"], index=2))
    assert (found.kind, found.master, found.parent, found.netns_id) == ("", None, None, None)
    assert (found.up, found.carrier, found.ours, found.is_guest) == (False, False, False, False)


@pytest.mark.parametrize(
    ("attribute", "ours", "guest"),
    [
        (["IFLA_GROUP", tag.LINK_GROUP], True, False),
        (["IFLA_GROUP", tag.RETIRED_GROUP], True, False),
        (["IFLA_GROUP", tag.GUEST_GROUP], False, True),
        (["IFLA_IFALIAS", "netd:1:x"], True, False),
        (["IFLA_IFALIAS", "uplink of netd:1:x"], False, False),
        (["IFLA_GROUP", 0], False, False),
    ],
)
def test_tags(attribute: list[Any], ours: bool, guest: bool) -> None:
    found = decode_link(*link(["IFLA_IFNAME", "x"], attribute))
    assert (found.ours, found.is_guest) == (ours, guest)


def test_alias_of_foreign_bytes() -> None:
    data, start, end = link(["IFLA_IFALIAS", "abc"])
    found = decode_link(data.replace(b"abc", b"\xff\xfe!"), start, end)
    assert found.alias == "\ufffd\ufffd!"


V4 = st.ip_addresses(v=4).map(str)
U32 = st.integers(1, 2**32 - 1)


@given(
    address=V4,
    length=st.integers(0, 32),
    index=st.integers(1, 2**31 - 1),
    scope=st.integers(0, 255),
)
def test_any_address(address: str, length: int, index: int, scope: int) -> None:
    attributes = [["IFA_ADDRESS", "192.0.2.1"], ["IFA_LOCAL", address], ["IFA_FLAGS", 0x280]]
    found = decode_address(
        *written(ifaddrmsg, family=2, prefixlen=length, index=index, scope=scope, attrs=attributes)
    )
    assert found == AddressInfo(index, f"{address}/{length}", scope, 0x280)


@given(
    destination=V4,
    length=st.integers(1, 32),
    gateway=st.none() | V4,
    source=st.none() | V4,
    table=U32,
    metric=U32,
    index=st.integers(1, 2**31 - 1),
    protocol=st.integers(0, 255),
)
def test_any_route(
    destination: str,
    length: int,
    gateway: str | None,
    source: str | None,
    table: int,
    metric: int,
    index: int,
    protocol: int,
) -> None:
    values = {
        "RTA_DST": destination,
        "RTA_GATEWAY": gateway,
        "RTA_PREFSRC": source,
        "RTA_TABLE": table,
        "RTA_PRIORITY": metric,
        "RTA_OIF": index,
    }
    attributes = [[name, value] for name, value in values.items() if value is not None]
    found = decode_route(
        *written(rtmsg, family=2, dst_len=length, proto=protocol, type=1, scope=0, attrs=attributes)
    )
    assert found == RouteInfo(
        family=2,
        destination=f"{destination}/{length}",
        index=index,
        gateway=gateway,
        source=source,
        table=table,
        protocol=protocol,
        metric=metric,
        kind=1,
        scope=0,
    )


def test_default_routes() -> None:
    for family, expected in ((2, "0.0.0.0/0"), (10, "::/0")):
        found = decode_route(*written(rtmsg, family=family, table=254, attrs=[["RTA_OIF", 3]]))
        assert (found.destination, found.table, found.index) == (expected, 254, 3)


def test_the_first_of_several_next_hops() -> None:
    hop = (
        struct.pack("=HBBi", 16, 0, 0, 9)
        + struct.pack("=HH", 8, uapi.RTA_GATEWAY)
        + bytes((10, 0, 0, 9))
    )
    second = struct.pack("=HBBi", 8, 0, 0, 11)
    multipath = struct.pack("=HH", 4 + len(hop + second), uapi.RTA_MULTIPATH) + hop + second
    data = uapi.RTMSG.pack(2, 0, 0, 0, 254, 3, 0, 1, 0) + multipath
    found = decode_route(data, 0, len(data))
    assert (found.index, found.gateway) == (9, "10.0.0.9")


def test_a_gateway_of_the_other_family() -> None:
    via = struct.pack("=HHH", 22, uapi.RTA_VIA, 10) + bytes(15) + b"\1" + b"\0\0"
    data = uapi.RTMSG.pack(2, 0, 0, 0, 254, 3, 0, 1, 0) + via
    assert decode_route(data, 0, len(data)).gateway == "::1"


def test_rule() -> None:
    attributes = [
        ["FRA_SRC", "10.0.0.2"],
        ["FRA_TABLE", 1000],
        ["FRA_PRIORITY", 110],
        ["FRA_PROTOCOL", tag.PROTOCOL],
    ]
    found = decode_rule(*written(fibmsg, family=2, src_len=32, action=1, attrs=attributes))
    assert found == RuleInfo(2, "10.0.0.2/32", 1000, 110, tag.PROTOCOL)
    bare = decode_rule(*written(fibmsg, family=2, table=255, action=1, attrs=[]))
    assert bare == RuleInfo(2, None, 255, 0, 0)


def neighbour(*attributes: Any, **header: int) -> Entry:
    return decode_entry(*written(ndmsg, attrs=list(attributes), **header))


def test_neighbour_and_forwarding_entry() -> None:
    mac, target = bytes.fromhex("020000000005"), bytes((10, 0, 0, 1))
    lladdr, dst = ["NDA_LLADDR", "02:00:00:00:00:05"], ["NDA_DST", "10.0.0.1"]
    both = frozenset({uapi.NDA_DST, uapi.NDA_LLADDR})
    found = neighbour(dst, lladdr, family=2, ifindex=3, state=2)
    assert found == Entry(2, 3, 2, 0, mac, target, both)
    # The same length, and another order.
    found = neighbour(lladdr, dst, family=7, ifindex=4, state=0x42)
    assert found == Entry(7, 4, 0x42, 0, mac, target, both)
    assert neighbour(lladdr, family=7, ifindex=4, state=0x40).destination == b""
    elsewhere = neighbour(lladdr, dst, ["NDA_VNI", 9], family=7, ifindex=4)
    assert elsewhere.kinds == both | {uapi.NDA_VNI}
    assert neighbour(family=7) == Entry(7, 0, 0, 0, b"", b"", frozenset())


@given(st.lists(st.sampled_from(("NDA_DST", "NDA_PORT", "NDA_VNI", "NDA_IFINDEX", "NDA_VLAN"))))
def test_what_is_read_does_not_depend_on_what_was_read_before(names: list[str]) -> None:
    values = {"NDA_DST": "192.0.2.9", "NDA_PORT": 4789, "NDA_VNI": 5, "NDA_IFINDEX": 7}
    chosen = [[name, values.get(name, 3)] for name in dict.fromkeys(names)]
    message = written(ndmsg, family=7, ifindex=4, state=2, flags=2, attrs=chosen)
    found = decode_entry(*message)
    assert found.kinds == {getattr(uapi, name) for name in names}
    assert found.destination == (bytes((192, 0, 2, 9)) if "NDA_DST" in names else b"")


def test_tunnel() -> None:
    def tunnel(label: int = 0, **flags: int) -> TunnelInfo | None:
        details: list[Any] = [
            ["IFLA_VXLAN_ID", 5000],
            ["IFLA_VXLAN_PORT", 4789],
            ["IFLA_VXLAN_LEARNING", flags.pop("link_learning", 0)],
            ["IFLA_VXLAN_LABEL", label],
        ]
        port = {"LEARNING": 0, "UNICAST_FLOOD": 0, "MCAST_FLOOD": 0, "BCAST_FLOOD": 0}
        settings = {**port, "NEIGH_SUPPRESS": 1, **flags}
        info = [
            ["IFLA_INFO_KIND", "vxlan"],
            ["IFLA_INFO_DATA", {"attrs": details}],
            ["IFLA_INFO_SLAVE_KIND", "bridge"],
            [
                "IFLA_INFO_SLAVE_DATA",
                {"attrs": [[f"IFLA_BRPORT_{name}", value] for name, value in settings.items()]},
            ],
        ]
        return decode_link(*link(["IFLA_LINKINFO", {"attrs": info}])).tunnel

    good = TunnelInfo(vni=5000, port=4789, family=4, flood=False, quiet=True)
    assert tunnel() == good
    assert tunnel(label=1) == replace(good, family=6)
    assert tunnel(MCAST_FLOOD=1, BCAST_FLOOD=1) == replace(good, flood=True)
    assert tunnel(MCAST_FLOOD=1) == replace(good, flood=True, quiet=False)
    for wrong in ({"LEARNING": 1}, {"UNICAST_FLOOD": 1}, {"NEIGH_SUPPRESS": 0}):
        assert tunnel(**wrong) == replace(good, quiet=False)
    assert tunnel(link_learning=1) == replace(good, quiet=False)


NOT_UNDERSTOOD = (struct.error, LookupError, ValueError, OSError)


@given(st.binary(min_size=16, max_size=200))
def test_any_bytes_end_in_a_value_or_in_one_of_few_errors(data: bytes) -> None:
    for decode in (decode_link, decode_address, decode_route, decode_rule, decode_entry):
        with suppress(*NOT_UNDERSTOOD):
            decode(data, 0, len(data))


def error_message(code: int, words: str = "", kind: int = uapi.NLMSG_ERROR) -> bytes:
    body = struct.pack("=i", -code)
    if kind == uapi.NLMSG_ERROR:
        body += bytes(16)
    if words:
        value = words.encode() + b"\0"
        body += struct.pack("=HH", 4 + len(value), uapi.NLMSGERR_ATTR_MSG) + value
        body += bytes(-len(value) % 4)
    return body


@pytest.mark.parametrize("kind", [uapi.NLMSG_ERROR, uapi.NLMSG_DONE])
def test_the_kernels_own_words(kind: int) -> None:
    data = error_message(errno.EINVAL, "Invalid prefix", kind)
    error = netlink._refusal(kind, uapi.NLM_F_ACK_TLVS, data, 0, len(data))
    assert error is not None
    assert (error.errno, error.strerror) == (errno.EINVAL, "Invalid argument: Invalid prefix")
    silent = error_message(errno.ENODEV, kind=kind)
    error = netlink._refusal(kind, 0, silent, 0, len(silent))
    assert error is not None
    assert error.strerror == "No such device"
    fine = error_message(0, kind=kind)
    assert netlink._refusal(kind, 0, fine, 0, len(fine)) is None


@given(st.lists(st.integers(0, 90_000), max_size=2500))
def test_batches_fit_and_lose_nothing(sizes: list[int]) -> None:
    messages = [Message(number, 0, bytes(size)) for number, size in enumerate(sizes[:40])]
    messages += [Message(number, 0, b"") for number in range(40, len(sizes))]
    batches = list(netlink._batches(messages))
    assert [message for _, batch in batches for message in batch] == messages
    for first, batch in batches:
        assert batch[0] is messages[first]
        assert len(batch) <= netlink.BATCH_MESSAGES
        total = sum(uapi.NLMSGHDR.size + len(message.payload) for message in batch)
        assert total <= netlink.BATCH_BYTES


@pytest.mark.parametrize("length", [0, 15, 17, 64])
def test_a_message_cut_short_is_an_error(length: int) -> None:
    data = uapi.NLMSGHDR.pack(length, uapi.RTM_NEWLINK, 0, 1, 0)
    with pytest.raises(NetlinkError):
        list(netlink._messages(data))
