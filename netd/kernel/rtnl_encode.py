"""netd's objects as rtnetlink requests.

One function for each kind of request; each returns one message. Names are those of the
kernel's headers, see uapi.py. Nothing here asks the kernel: indexes and descriptors are given.
"""

import socket
from socket import AF_INET, AF_INET6, AF_UNSPEC

from netd.kernel import tag, uapi
from netd.kernel.attributes import attribute, u8, u32
from netd.kernel.netlink import Message
from netd.kernel.tunnels_encode import vxlan_details, vxlan_learning, vxlan_port
from netd.kernel.uapi import I32, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from netd.plan.objects import Address, Bridge, Ifb, Link, Macvlan, Route, Rule, Veth, VethPeer
from netd.plan.tunnels import Vxlan

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}  # if_link.h
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPV6_MTU_MIN = 1280  # IPV6_MIN_MTU in linux/ipv6.h: with less a link has no IPv6 at all
_FOR_EVER_S = 0xFFFFFFFF  # INFINITY_LIFE_TIME in net/addrconf.h
_CREATE = NLM_F_CREATE | NLM_F_EXCL


def new_bridge(link: Bridge) -> Message:
    """A bridge without STP. It does not hand bridged frames to iptables: a foreign forward
    policy would drop what containers of one network say to each other. Its ports are in no
    VLAN: each forwarding entry would be made for that as well (br_fdb_add in br_fdb.c).
    """
    details = (
        u32(uapi.IFLA_BR_FORWARD_DELAY, 0)
        + u32(uapi.IFLA_BR_STP_STATE, 0)
        + u8(uapi.IFLA_BR_MCAST_SNOOPING, 0)
        + u8(uapi.IFLA_BR_NF_CALL_IPTABLES, 0)
        + u8(uapi.IFLA_BR_NF_CALL_IP6TABLES, 0)
        + u8(uapi.IFLA_BR_NF_CALL_ARPTABLES, 0)
        + attribute(uapi.IFLA_BR_VLAN_DEFAULT_PVID, bytes(2))
    )
    return _new_link(link, _mac(link.mac) + _link_info("bridge", details))


def new_veth(link: Veth, *, master: int | None, peer_netns: int | None) -> Message:
    """A veth pair, the peer in the namespace of descriptor `peer_netns`, or beside it, down.

    The peer cannot come up in the same request: the pair is not yet tied (ENOTCONN).
    """
    peer = (
        bytes(uapi.IFINFOMSG.size)
        + _text(uapi.IFLA_IFNAME, link.peer_name)
        + u32(uapi.IFLA_GROUP, tag.GUEST_GROUP)
        + _mac(link.peer_mac)
        + _mtu(link.mtu)
        + _ONE_QUEUE
    )
    if peer_netns is not None:
        peer += u32(uapi.IFLA_NET_NS_FD, peer_netns)
    upper = b"" if master is None else u32(uapi.IFLA_MASTER, master)
    details = attribute(uapi.VETH_INFO_PEER | NLA_F_NESTED, peer)
    return _new_link(link, upper + _ONE_QUEUE + _link_info("veth", details))


def new_macvlan(link: Macvlan, *, parent: int, netns: int | None, index: int = 0) -> Message:
    """A macvlan or ipvlan on the link `parent`, made in the namespace of descriptor `netns`.

    It gets `index` there (EBUSY: it is taken), one of the kernel's choice with 0.
    """
    if link.kind == "macvlan":
        mode = u32(uapi.IFLA_MACVLAN_MODE, MACVLAN_MODES[link.mode])
    else:
        mode = attribute(uapi.IFLA_IPVLAN_MODE, IPVLAN_MODES[link.mode].to_bytes(2, "little"))
    attributes = u32(uapi.IFLA_LINK, parent) + _link_info(link.kind, mode)
    if link.mac:
        attributes += _mac(link.mac)
    if netns is not None:
        attributes += u32(uapi.IFLA_NET_NS_FD, netns)
    return _new_link(link, attributes, index)


def new_ifb(link: Ifb) -> Message:
    return _new_link(link, _link_info("ifb", b""))


def new_vxlan(link: Vxlan, *, master: int) -> Message:
    """A VXLAN link, down, as a port of the bridge `master`."""
    attributes = u32(uapi.IFLA_MASTER, master) + _mac(link.mac)
    return _new_link(link, attributes + _link_info("vxlan", vxlan_details(link)))


def finish_link(link: Link) -> Message:
    """Give a link that was just made what the kernel ignores at creation.

    A bridge gets its MTU only now: it keeps one that it is changed to, but one that it was
    made with follows those of its ports, and is 1500 after the last has left.
    """
    attributes = _text(uapi.IFLA_IFALIAS, tag.alias(link.owner))
    if isinstance(link, Bridge):
        attributes += _mtu(link.mtu)
    finishing = set_link(link, attributes=attributes)
    if isinstance(link, Vxlan) or (isinstance(link, Veth) and link.hairpin):
        return _as_port(finishing, link)
    return finishing


def change_link(link: Link, index: int, *, mac: str, master: int | None) -> Message:
    """Make all that netd manages of link `index` as it should be. `master` 0 is none.

    `mac` is the one it has. To set that anew would make the link forget all its neighbours:
    the kernel tells of a change without looking (netif_set_mac_address in net/core/dev.c).
    """
    attributes = _mtu(link.mtu)
    wanted: str | None = getattr(link, "mac", None)
    if wanted and wanted != mac:
        attributes += _mac(wanted)
    if master is not None:
        attributes += u32(uapi.IFLA_MASTER, master)
    if link.ns:
        attributes += u32(uapi.IFLA_GROUP, tag.GUEST_GROUP)
    else:
        attributes += _text(uapi.IFLA_IFALIAS, tag.alias(link.owner))
        attributes += u32(uapi.IFLA_GROUP, tag.LINK_GROUP)
    return set_link(link, index=index, attributes=attributes)


def set_link(link: Link, *, index: int = 0, attributes: bytes = b"") -> Message:
    """Bring a link up (or down), by name unless `index` is given."""
    header = uapi.IFINFOMSG.pack(AF_UNSPEC, 0, index, uapi.IFF_UP if link.up else 0, uapi.IFF_UP)
    name = b"" if index else _text(uapi.IFLA_IFNAME, link.name)
    return Message(uapi.RTM_SETLINK, 0, header + name + attributes + _families(link))


def set_mtu(index: int, mtu: int) -> Message:
    """Only the MTU of the link `index`: what else is set may need IPv6 to be there first."""
    return Message(uapi.RTM_SETLINK, 0, uapi.IFINFOMSG.pack(AF_UNSPEC, 0, index, 0, 0) + _mtu(mtu))


def set_port(link: Veth | Vxlan, index: int) -> Message:
    """What a bridge does with its port `index`; it forgets that when the port leaves."""
    header = uapi.IFINFOMSG.pack(AF_UNSPEC, 0, index, 0, 0)
    return _as_port(Message(uapi.RTM_SETLINK, 0, header), link)


def retire_link(index: int) -> Message:
    """Mark a link for removal and take it down, which cuts off a veth's peer.

    Not a disabled bridge port: the peer's owner could enable that by setting the peer up anew.
    """
    header = uapi.IFINFOMSG.pack(AF_UNSPEC, 0, index, 0, uapi.IFF_UP)
    return Message(uapi.RTM_SETLINK, 0, header + u32(uapi.IFLA_GROUP, tag.RETIRED_GROUP))


def delete_link(index: int) -> Message:
    return Message(uapi.RTM_DELLINK, 0, uapi.IFINFOMSG.pack(AF_UNSPEC, 0, index, 0, 0))


def delete_retired_links() -> Message:
    """Remove all links marked by `retire_link`. Done together they share the waits for RCU."""
    payload = bytes(uapi.IFINFOMSG.size) + u32(uapi.IFLA_GROUP, tag.RETIRED_GROUP)
    return Message(uapi.RTM_DELLINK, 0, payload)


def new_nsid(netns: int) -> Message:
    """An id, chosen by the kernel, for the namespace of descriptor `netns`. EEXIST: it has one."""
    attributes = u32(uapi.NETNSA_FD, netns)
    attributes += attribute(uapi.NETNSA_NSID, I32.pack(uapi.NETNSA_NSID_NOT_ASSIGNED))
    return Message(uapi.RTM_NEWNSID, 0, uapi.RTGENMSG.pack(AF_UNSPEC) + attributes)


def new_address(wanted: Address, index: int, *, replace: bool = False) -> Message:
    """An address, usable at once: duplicate detection would hold an IPv6 one back for 1 s."""
    family, packed, length = _prefix(wanted.address)
    flags = uapi.IFA_F_PERMANENT | (uapi.IFA_F_NODAD if family == AF_INET6 else 0)
    header = uapi.IFADDRMSG.pack(family, length, flags, uapi.RT_SCOPE_UNIVERSE, index)
    attributes = attribute(uapi.IFA_LOCAL, packed) + attribute(uapi.IFA_ADDRESS, packed)
    if family == AF_INET and length < 31:
        attributes += attribute(uapi.IFA_BROADCAST, _broadcast(packed, length))
    if not wanted.preferred:
        attributes += attribute(
            uapi.IFA_CACHEINFO, uapi.IFA_CACHEINFO_VALUE.pack(0, _FOR_EVER_S, 0, 0)
        )
    verb = NLM_F_CREATE | NLM_F_REPLACE if replace else _CREATE
    return Message(uapi.RTM_NEWADDR, verb, header + attributes)


def delete_address(unwanted: Address, index: int) -> Message:
    family, packed, length = _prefix(unwanted.address)
    header = uapi.IFADDRMSG.pack(family, length, 0, 0, index)
    return Message(uapi.RTM_DELADDR, 0, header + attribute(uapi.IFA_LOCAL, packed))


def new_route(wanted: Route, index: int, *, replace: bool = False) -> Message:
    verb = NLM_F_CREATE | NLM_F_REPLACE if replace else _CREATE
    return Message(uapi.RTM_NEWROUTE, verb, _route(wanted, index))


def delete_route(unwanted: Route, index: int) -> Message:
    """The kernel compares the protocol, too: only a route of netd's can go."""
    return Message(uapi.RTM_DELROUTE, 0, _route(unwanted, index))


def new_rule(wanted: Rule) -> Message:
    return Message(uapi.RTM_NEWRULE, _CREATE, _rule(wanted))


def delete_rule(unwanted: Rule) -> Message:
    return Message(uapi.RTM_DELRULE, 0, _rule(unwanted))


def _new_link(link: Link, attributes: bytes, index: int = 0) -> Message:
    # What `finish_link` follows comes up by that, with no link-local address of the kernel's.
    up = link.up and not isinstance(link, Bridge | Veth | Vxlan)
    header = uapi.IFINFOMSG.pack(AF_UNSPEC, 0, index, uapi.IFF_UP if up else 0, uapi.IFF_UP)
    group = tag.GUEST_GROUP if link.ns else tag.LINK_GROUP
    common = _text(uapi.IFLA_IFNAME, link.name) + u32(uapi.IFLA_GROUP, group)
    if not isinstance(link, Bridge):
        common += _mtu(link.mtu)
    return Message(uapi.RTM_NEWLINK, _CREATE, header + common + attributes)


def _as_port(setting: Message, link: Veth | Vxlan) -> Message:
    """The same with settings of the bridge port. Only RTM_NEWLINK reads IFLA_LINKINFO."""
    info = b""
    if isinstance(link, Vxlan):
        port = vxlan_port(link)
        info += _text(uapi.IFLA_INFO_KIND, "vxlan")
        info += attribute(uapi.IFLA_INFO_DATA | NLA_F_NESTED, vxlan_learning())
    else:
        port = u8(uapi.IFLA_BRPORT_MODE, int(link.hairpin))
    info += _text(uapi.IFLA_INFO_SLAVE_KIND, "bridge")
    info += attribute(uapi.IFLA_INFO_SLAVE_DATA | NLA_F_NESTED, port)
    payload = setting.payload + attribute(uapi.IFLA_LINKINFO | NLA_F_NESTED, info)
    return Message(uapi.RTM_NEWLINK, 0, payload)


def _families(link: Link) -> bytes:
    """IFLA_AF_SPEC: settings of one address family."""
    # A bridge port needs no IPv6 address; without a link-local one it answers to nobody. Others
    # get theirs from netd, not from the kernel, which would test it for duplicates first.
    mode = u8(uapi.IFLA_INET6_ADDR_GEN_MODE, uapi.IN6_ADDR_GEN_MODE_NONE)
    without_address = attribute(AF_INET6 | NLA_F_NESTED, mode)
    if link.mtu is not None and link.mtu < IPV6_MTU_MIN:
        without_address = b""  # the kernel refuses settings of a family that is not there
    match link:
        case Veth() | VethPeer() | Vxlan():
            families = without_address
        case Bridge():
            value = u32(uapi.IPV4_DEVCONF_ROUTE_LOCALNET, int(link.route_localnet))
            conf = attribute(uapi.IFLA_INET_CONF | NLA_F_NESTED, value)
            families = attribute(AF_INET | NLA_F_NESTED, conf) + without_address
        case _:
            return b""
    return attribute(uapi.IFLA_AF_SPEC | NLA_F_NESTED, families)


def _route(route: Route, index: int) -> bytes:
    family, packed, length = _prefix(route.destination)
    on_link = family == AF_INET and route.gateway is None
    header = uapi.RTMSG.pack(
        family,
        length,
        0,
        0,
        route.table if route.table < 256 else uapi.RT_TABLE_UNSPEC,
        tag.PROTOCOL,
        uapi.RT_SCOPE_LINK if on_link else uapi.RT_SCOPE_UNIVERSE,
        uapi.RTN_UNICAST,
        0,
    )
    attributes = u32(uapi.RTA_TABLE, route.table) + u32(uapi.RTA_OIF, index)
    if length:
        attributes += attribute(uapi.RTA_DST, packed)
    if metric := default_metric(family) if route.metric is None else route.metric:
        attributes += u32(uapi.RTA_PRIORITY, metric)
    if route.gateway is not None:
        attributes += attribute(uapi.RTA_GATEWAY, socket.inet_pton(family, route.gateway))
    if route.source is not None:
        attributes += attribute(uapi.RTA_PREFSRC, socket.inet_pton(family, route.source))
    return header + attributes


def default_metric(family: int) -> int:
    """What the kernel takes for a route without a metric."""
    return uapi.IP6_RT_PRIO_USER if family == AF_INET6 else 0


def _rule(rule: Rule) -> bytes:
    family, packed, length = _prefix(rule.source)
    header = uapi.RTMSG.pack(family, 0, length, 0, 0, 0, 0, uapi.FR_ACT_TO_TBL, 0)
    return (
        header
        + attribute(uapi.FRA_SRC, packed)
        + u32(uapi.FRA_TABLE, rule.table)
        + u32(uapi.FRA_PRIORITY, rule.priority)
        + u8(uapi.FRA_PROTOCOL, tag.PROTOCOL)
    )


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _mac(value: str) -> bytes:
    return attribute(uapi.IFLA_ADDRESS, bytes.fromhex(value.replace(":", "")))


def _mtu(value: int | None) -> bytes:
    return b"" if value is None else u32(uapi.IFLA_MTU, value)


def _link_info(kind: str, details: bytes) -> bytes:
    info = _text(uapi.IFLA_INFO_KIND, kind)
    if details:
        info += attribute(uapi.IFLA_INFO_DATA | NLA_F_NESTED, details)
    return attribute(uapi.IFLA_LINKINFO | NLA_F_NESTED, info)


def _prefix(text: str) -> tuple[int, bytes, int]:
    address, _, length = text.partition("/")
    family = AF_INET6 if ":" in address else AF_INET
    return family, socket.inet_pton(family, address), int(length)


def _broadcast(packed: bytes, length: int) -> bytes:
    host_bits = (1 << (32 - length)) - 1
    return (int.from_bytes(packed, "big") | host_bits).to_bytes(4, "big")


# A veth has as many queues as the host has processors, each with its kobjects to make and to
# remove, and uses the first one only: it has no qdisc that would choose another.
_ONE_QUEUE = u32(uapi.IFLA_NUM_TX_QUEUES, 1) + u32(uapi.IFLA_NUM_RX_QUEUES, 1)
