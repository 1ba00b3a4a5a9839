"""rtnetlink's answers as values: what `NetlinkSocket.dump` and `get` are asked for.

    links = socket.dump(LINKS)          # list[LinkInfo]
    link = socket.get(link_named("eth0"))

The `decode_*` functions read one message's payload and serve for notifications as well.
"""

import socket
from socket import AF_INET, AF_INET6

import msgspec

from netd.kernel import tag, uapi
from netd.kernel.attributes import Attributes, attributes
from netd.kernel.netlink import Query
from netd.kernel.tunnels_decode import TunnelInfo, decode_tunnel
from netd.kernel.uapi import I32, NLA_TYPE_MASK, NLATTR, U32


class LinkInfo(msgspec.Struct, frozen=True, gc=False):
    """A network interface. `kind` is "" for hardware and for lo; `parent` is IFLA_LINK.

    `netns_id` is set when the parent (a veth's peer) is in another namespace. `mode` is that
    of a macvlan or ipvlan as a number. `arphrd` is the device type (1 is Ethernet). `hairpin`
    and `route_localnet` are read of veths and bridges only, `tunnel` of VXLAN links.
    """

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    arphrd: int
    master: int | None
    parent: int | None
    netns_id: int | None
    group: int
    alias: str
    mode: int | None
    route_localnet: bool
    hairpin: bool
    tunnel: TunnelInfo | None

    @property
    def ours(self) -> bool:
        """Whether it is a link of the host with netd's tag; retired ones are, too."""
        return (
            self.group in (tag.LINK_GROUP, tag.RETIRED_GROUP)
            or tag.owner_of(self.alias) is not None
        )

    @property
    def is_guest(self) -> bool:
        """Whether netd put it into a container. What runs there may have changed the mark."""
        return self.group == tag.GUEST_GROUP


class AddressInfo(msgspec.Struct, frozen=True, gc=False):
    """An address on the link `index`, in CIDR form. `scope` as in rtnetlink(7): 0 is global."""

    index: int
    address: str
    scope: int
    flags: int

    @property
    def preferred(self) -> bool:
        return not self.flags & uapi.IFA_F_DEPRECATED


class RouteInfo(msgspec.Struct, frozen=True, gc=False):
    """A route. `index` is its link (of several next hops the first's), None without one."""

    family: int
    destination: str
    index: int | None
    gateway: str | None
    source: str | None
    table: int
    protocol: int
    metric: int
    kind: int
    scope: int


class RuleInfo(msgspec.Struct, frozen=True, gc=False):
    """A routing rule. `source` is None when it holds for all."""

    family: int
    source: str | None
    table: int
    priority: int
    protocol: int


def decode_link(data: bytes, start: int, end: int) -> LinkInfo:
    _, arphrd, index, flags, _ = uapi.IFINFOMSG.unpack_from(data, start)
    found = attributes(data, start + uapi.IFINFOMSG.size, end)
    place = found.get(uapi.IFLA_LINKINFO)
    info = attributes(data, *place) if place else {}
    kind = text(data, info.get(uapi.IFLA_INFO_KIND))
    return LinkInfo(
        index=index,
        name=text(data, found.get(uapi.IFLA_IFNAME)),
        kind=kind,
        mac=mac(data, found.get(uapi.IFLA_ADDRESS)),
        mtu=u32(data, found.get(uapi.IFLA_MTU)) or 0,
        up=bool(flags & uapi.IFF_UP),
        carrier=bool((place := found.get(uapi.IFLA_CARRIER)) and data[place[0]]),
        arphrd=arphrd,
        master=u32(data, found.get(uapi.IFLA_MASTER)),
        parent=u32(data, found.get(uapi.IFLA_LINK)),
        netns_id=_i32(data, found.get(uapi.IFLA_LINK_NETNSID)),
        group=u32(data, found.get(uapi.IFLA_GROUP)) or 0,
        alias=text(data, found.get(uapi.IFLA_IFALIAS)),
        mode=_mode(data, info) if kind in ("macvlan", "ipvlan") else None,
        # Looked for where netd sets them only: these blocks are large.
        route_localnet=kind == "bridge" and _route_localnet(data, found.get(uapi.IFLA_AF_SPEC)),
        hairpin=kind == "veth" and _hairpin(data, info.get(uapi.IFLA_INFO_SLAVE_DATA)),
        tunnel=decode_tunnel(data, info) if kind == "vxlan" else None,
    )


def decode_address(data: bytes, start: int, end: int) -> AddressInfo:
    family, length, flags, scope, index = uapi.IFADDRMSG.unpack_from(data, start)
    found = attributes(data, start + uapi.IFADDRMSG.size, end)
    # On a point-to-point link IFA_ADDRESS is the other side's; IPv6 has IFA_LOCAL only then.
    place = found.get(uapi.IFA_LOCAL) or found[uapi.IFA_ADDRESS]
    address = f"{_address(family, data, place)}/{length}"
    wide_flags = u32(data, found.get(uapi.IFA_FLAGS))
    return AddressInfo(index, address, scope, flags if wide_flags is None else wide_flags)


def decode_route(data: bytes, start: int, end: int) -> RouteInfo:
    family, length, _, _, table, protocol, scope, kind, _ = uapi.RTMSG.unpack_from(data, start)
    found = attributes(data, start + uapi.RTMSG.size, end)
    wide_table = u32(data, found.get(uapi.RTA_TABLE))
    index = u32(data, found.get(uapi.RTA_OIF))
    gateway = _gateway(family, data, found)
    if index is None and (hops := found.get(uapi.RTA_MULTIPATH)):
        size, _, _, index = uapi.RTNEXTHOP.unpack_from(data, hops[0])
        first = attributes(data, hops[0] + uapi.RTNEXTHOP.size, hops[0] + size)
        gateway = _gateway(family, data, first)
    return RouteInfo(
        family=family,
        destination=_prefix(family, length, data, found.get(uapi.RTA_DST)),
        index=index,
        gateway=gateway,
        source=_address(family, data, place) if (place := found.get(uapi.RTA_PREFSRC)) else None,
        table=table if wide_table is None else wide_table,
        protocol=protocol,
        metric=u32(data, found.get(uapi.RTA_PRIORITY)) or 0,
        kind=kind,
        scope=scope,
    )


def decode_rule(data: bytes, start: int, end: int) -> RuleInfo:
    family, _, source_length, _, table, *_ = uapi.RTMSG.unpack_from(data, start)
    found = attributes(data, start + uapi.RTMSG.size, end)
    source = found.get(uapi.FRA_SRC)
    wide_table = u32(data, found.get(uapi.FRA_TABLE))
    protocol = found.get(uapi.FRA_PROTOCOL)
    return RuleInfo(
        family=family,
        source=_prefix(family, source_length, data, source) if source else None,
        table=table if wide_table is None else wide_table,
        priority=u32(data, found.get(uapi.FRA_PRIORITY)) or 0,
        protocol=data[protocol[0]] if protocol else 0,
    )


_NO_STATISTICS = NLATTR.pack(8, uapi.IFLA_EXT_MASK) + U32.pack(uapi.RTEXT_FILTER_SKIP_STATS)


def link_named(name: str) -> Query[LinkInfo]:
    """One link, by its name. The answer is ENODEV when there is none."""
    value = name.encode() + b"\0"
    attribute = NLATTR.pack(4 + len(value), uapi.IFLA_IFNAME) + value + b"\0" * (-len(value) % 4)
    payload = bytes(uapi.IFINFOMSG.size) + _NO_STATISTICS + attribute
    return Query(uapi.RTM_GETLINK, payload, uapi.RTM_NEWLINK, decode_link)


def link_at(index: int) -> Query[LinkInfo]:
    """One link, by its index. The answer is ENODEV when there is none."""
    payload = uapi.IFINFOMSG.pack(0, 0, index, 0, 0) + _NO_STATISTICS
    return Query(uapi.RTM_GETLINK, payload, uapi.RTM_NEWLINK, decode_link)


def routes(family: int, *, protocol: int = 0) -> Query[RouteInfo]:
    """Unicast routes of one family, of all tables; of one protocol only unless that is 0."""
    payload = uapi.RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, uapi.RTN_UNICAST, 0)
    return Query(uapi.RTM_GETROUTE, payload, uapi.RTM_NEWROUTE, decode_route)


LINKS = Query(
    uapi.RTM_GETLINK, bytes(uapi.IFINFOMSG.size) + _NO_STATISTICS, uapi.RTM_NEWLINK, decode_link
)
ADDRESSES = Query(uapi.RTM_GETADDR, bytes(uapi.IFADDRMSG.size), uapi.RTM_NEWADDR, decode_address)
ROUTES_4 = routes(AF_INET)
ROUTES_6 = routes(AF_INET6)
OWN_ROUTES_4 = routes(AF_INET, protocol=tag.PROTOCOL)
OWN_ROUTES_6 = routes(AF_INET6, protocol=tag.PROTOCOL)
CONNECTED_ROUTES_4 = routes(AF_INET, protocol=uapi.RTPROT_KERNEL)
CONNECTED_ROUTES_6 = routes(AF_INET6, protocol=uapi.RTPROT_KERNEL)
RULES = Query(uapi.RTM_GETRULE, bytes(uapi.RTMSG.size), uapi.RTM_NEWRULE, decode_rule)


def _mode(data: bytes, info: Attributes) -> int | None:
    details = info.get(uapi.IFLA_INFO_DATA)
    place = attributes(data, *details).get(uapi.IFLA_MACVLAN_MODE) if details else None
    # ipvlan's is the same attribute with 16 bits.
    return int.from_bytes(data[place[0] : place[1]], "little") if place else None


def _hairpin(data: bytes, place: tuple[int, int] | None) -> bool:
    if place is None:
        return False
    offset, end = place
    while offset + 4 <= end:  # of some forty attributes the fourth
        length, kind = NLATTR.unpack_from(data, offset)
        if kind & NLA_TYPE_MASK == uapi.IFLA_BRPORT_MODE:
            return bool(data[offset + 4])
        if length < 4:
            break
        offset += (length + 3) & ~3
    return False


def _route_localnet(data: bytes, place: tuple[int, int] | None) -> bool:
    families = attributes(data, *place) if place else {}
    inet = families.get(AF_INET)
    conf = attributes(data, *inet).get(uapi.IFLA_INET_CONF) if inet else None
    if conf is None:
        return False
    offset = conf[0] + 4 * (uapi.IPV4_DEVCONF_ROUTE_LOCALNET - 1)
    return offset < conf[1] and bool(U32.unpack_from(data, offset)[0])


def _gateway(family: int, data: bytes, found: Attributes) -> str | None:
    if place := found.get(uapi.RTA_GATEWAY):
        return _address(family, data, place)
    if place := found.get(uapi.RTA_VIA):  # a next hop of the other family: u16, then the address
        via = int.from_bytes(data[place[0] : place[0] + 2], "little")
        return _address(via, data, (place[0] + 2, place[1]))
    return None


def _address(family: int, data: bytes, place: tuple[int, int]) -> str:
    return socket.inet_ntop(family, data[place[0] : place[1]])


def _prefix(family: int, length: int, data: bytes, place: tuple[int, int] | None) -> str:
    if place is None:
        return "0.0.0.0/0" if family == AF_INET else "::/0"
    return f"{_address(family, data, place)}/{length}"


# What one attribute holds; "" or None without it.


def text(data: bytes, place: tuple[int, int] | None) -> str:
    return data[place[0] : place[1]].rstrip(b"\0").decode(errors="replace") if place else ""


def mac(data: bytes, place: tuple[int, int] | None) -> str:
    return data[place[0] : place[1]].hex(":") if place else ""


def u32(data: bytes, place: tuple[int, int] | None) -> int | None:
    return U32.unpack_from(data, place[0])[0] if place else None


def _i32(data: bytes, place: tuple[int, int] | None) -> int | None:
    return I32.unpack_from(data, place[0])[0] if place else None
