"""Which way the kernel sends a packet: what ip-route(8) calls `get`."""

import errno
import ipaddress
from collections.abc import Iterable
from socket import AF_INET, AF_INET6
from typing import Final

from netd.kernel import uapi
from netd.kernel.attributes import Attributes, attributes
from netd.kernel.netlink import NetlinkError, NetlinkSocket, Query
from netd.kernel.rtnl_decode import RouteInfo, decode_route, link_at, u32
from netd.kernel.uapi import NLATTR
from netd.plan.facts import NextHop

# Without a route, or with one that refuses (blackhole, prohibit, unreachable); EINVAL also where
# the source is no address of the namespace.
_NO_WAY: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ENODEV}
)


def next_hop(rtnl: NetlinkSocket, destination: str, source: str | None) -> NextHop | None:
    """The way from the socket's namespace to an address, None where there is none.

    `source` decides where rules look at it. Raises NetlinkError.
    """
    try:
        route = rtnl.get(_route_to(destination, source))
        if route.index is None:
            return None
        link = rtnl.get(link_at(route.index)).name
    except NetlinkError as error:
        if error.errno in _NO_WAY:
            return None
        raise
    return NextHop(link=link, gateway=route.gateway, local=route.kind == uapi.RTN_LOCAL)


def mtus_to(rtnl: NetlinkSocket, destinations: Iterable[str]) -> dict[str, int]:
    """The MTU of the way to each address, where there is one. Raises NetlinkError."""
    links: dict[int, int] = {}
    found: dict[str, int] = {}
    for destination in destinations:
        try:
            index, mtu = rtnl.get(_of_way(_route_to(destination, None)))
            if index is None:
                continue
            if index not in links:
                links[index] = rtnl.get(link_at(index)).mtu
        except NetlinkError as error:
            if error.errno not in _NO_WAY:
                raise
            continue
        found[destination] = mtu or links[index]
    return found


def _route_to(destination: str, source: str | None) -> Query[RouteInfo]:
    target = ipaddress.ip_address(destination)
    bits = target.max_prefixlen
    family = AF_INET if target.version == 4 else AF_INET6
    attributes = _attribute(uapi.RTA_DST, target.packed)
    if source is not None:
        attributes += _attribute(uapi.RTA_SRC, ipaddress.ip_address(source).packed)
    header = uapi.RTMSG.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, 0)
    return Query(uapi.RTM_GETROUTE, header + attributes, uapi.RTM_NEWROUTE, decode_route)


def _of_way(query: Query[RouteInfo]) -> Query[tuple[int | None, int]]:
    """The same question, for the link and the MTU that the route has of its own, 0 without one."""
    return Query(query.type, query.payload, query.answer, _decode_way)


def _decode_way(data: bytes, start: int, end: int) -> tuple[int | None, int]:
    found = attributes(data, start + uapi.RTMSG.size, end)
    own = 0 if _is_learnt(data, start, found) else _mtu(data, found)
    return decode_route(data, start, end).index, own


def _mtu(data: bytes, found: Attributes) -> int:
    metrics = found.get(uapi.RTA_METRICS)
    place = attributes(data, *metrics).get(uapi.RTAX_MTU) if metrics else None
    return u32(data, place) or 0


def _is_learnt(data: bytes, start: int, found: Attributes) -> bool:
    """Whether the kernel has what it says of the way from ICMP, for some minutes."""
    *_, flags = uapi.RTMSG.unpack_from(data, start)
    place = found.get(uapi.RTA_CACHEINFO)
    expires = uapi.U32.unpack_from(data, place[0] + uapi.CACHEINFO_EXPIRES)[0] if place else 0
    return bool(expires and flags & uapi.RTM_F_CLONED)


def _attribute(kind: int, value: bytes) -> bytes:
    return NLATTR.pack(NLATTR.size + len(value), kind) + value  # addresses need no padding
