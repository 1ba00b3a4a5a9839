"""Which way the kernel sends a packet: what ip-route(8) calls `get`."""

import errno
import ipaddress
from socket import AF_INET, AF_INET6
from typing import Final

from netd.kernel import uapi
from netd.kernel.netlink import NetlinkError, NetlinkSocket, Query
from netd.kernel.rtnl_decode import RouteInfo, decode_route, link_at
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


def _route_to(destination: str, source: str | None) -> Query[RouteInfo]:
    target = ipaddress.ip_address(destination)
    bits = target.max_prefixlen
    family = AF_INET if target.version == 4 else AF_INET6
    attributes = _attribute(uapi.RTA_DST, target.packed)
    if source is not None:
        attributes += _attribute(uapi.RTA_SRC, ipaddress.ip_address(source).packed)
    header = uapi.RTMSG.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, 0)
    return Query(uapi.RTM_GETROUTE, header + attributes, uapi.RTM_NEWROUTE, decode_route)


def _attribute(kind: int, value: bytes) -> bytes:
    return NLATTR.pack(NLATTR.size + len(value), kind) + value  # addresses need no padding
