"""Connection tracking: flows that must not outlive the publishing of a port.

The first packet of a flow decides for all others whether it is translated. TCP clients open
new flows; a UDP client that goes on sending keeps the old one alive, and would never reach a
port published later, or would reach for ever one that is no more.

Message layout: include/uapi/linux/netfilter/nfnetlink_conntrack.h; the filter's flags are in
the kernel's include/net/netfilter/nf_internals.h (Linux 5.8).
"""

import errno
import functools
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from netd.kernel.attributes import attribute, attributes
from netd.kernel.netlink import Message, NetlinkError, NetlinkSocket, Query
from netd.plan.ports import Family, HeldPort

_NETLINK_NETFILTER = 12
_CT_NEW, _CT_GET, _CT_DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 12, 18, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_DST: dict[int, int] = {4: 2, 6: 4}
_CTA_PROTO_NUM, _CTA_PROTO_DST_PORT = 1, 3
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_REPLY_FLAGS = 1, 2
_FILTER_PROTO_NUM, _FILTER_PROTO_DST_PORT = 1 << 3, 1 << 5
_NESTED = 0x8000
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}

_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTA_DST = 1
_RTN_LOCAL = 2


class _Flow(NamedTuple):
    """Where the flow's first packet was sent to, and what names the flow to the kernel."""

    address: bytes
    port: int
    name: bytes


def flush_udp(ports: Sequence[HeldPort]) -> int:
    """Forget UDP flows to these host ports; return how many there were.

    Of a port on all addresses only flows to the host itself are meant: a container's question
    to a name server elsewhere has a well-known port too, and keeps its flow. Works in the
    network namespace of the calling thread. Raises NetlinkError when the kernel does not list
    its flows.
    """
    count = 0
    for family in (4, 6):
        wanted: dict[int, set[str]] = {}
        for held in ports:
            if held.protocol == "udp" and held.family == family:
                wanted.setdefault(held.port, set()).add(held.address)
        if wanted:
            count += _flush(4 if family == 4 else 6, wanted)
    return count


def _flush(family: Family, wanted: dict[int, set[str]]) -> int:
    """Forget the flows to `wanted`: by port the addresses, "" for all of the host."""
    only_port = next(iter(wanted)) if len(wanted) == 1 else None
    header = struct.pack("=BBH", _FAMILY[family], 0, 0)  # struct nfgenmsg
    with NetlinkSocket(_NETLINK_NETFILTER) as conntrack, NetlinkSocket() as routes:
        is_local = functools.cache(functools.partial(_is_local, routes, family))
        query = Query(_CT_GET, header + _udp_filter(only_port), _CT_NEW, _decoder(family))
        doomed = [
            Message(_CT_DELETE, 0, header + flow.name)
            for flow in conntrack.dump(query)
            if _concerns(flow, wanted, family, is_local)
        ]
        refused = conntrack.send(doomed)
    for error in refused.values():
        if error.errno != errno.ENOENT:  # it ended by itself meanwhile
            raise error
    return len(doomed) - len(refused)


def _concerns(
    flow: _Flow, wanted: dict[int, set[str]], family: Family, is_local: Callable[[bytes], bool]
) -> bool:
    addresses = wanted.get(flow.port, set())
    if "" in addresses and is_local(flow.address):
        return True
    return socket.inet_ntop(_FAMILY[family], flow.address) in addresses


def _udp_filter(port: int | None) -> bytes:
    """Have the kernel leave out of the dump what is not UDP, or not to that one port."""
    flags = _FILTER_PROTO_NUM
    proto = attribute(_CTA_PROTO_NUM, bytes([socket.IPPROTO_UDP]))
    if port is not None:
        flags |= _FILTER_PROTO_DST_PORT
        proto += attribute(_CTA_PROTO_DST_PORT, port.to_bytes(2, "big"))
    return attribute(
        _CTA_TUPLE_ORIG | _NESTED, attribute(_CTA_TUPLE_PROTO | _NESTED, proto)
    ) + attribute(
        _CTA_FILTER | _NESTED,
        attribute(_CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags))
        + attribute(_CTA_FILTER_REPLY_FLAGS, bytes(4)),
    )


def _decoder(family: Family) -> Callable[[bytes, int, int], _Flow]:
    destination = _CTA_IP_DST[family]

    def decode(data: bytes, start: int, end: int) -> _Flow:
        found = attributes(data, start + 4, end)
        tuple_orig = attributes(data, *found[_CTA_TUPLE_ORIG])
        address = attributes(data, *tuple_orig[_CTA_TUPLE_IP])[destination]
        port = attributes(data, *tuple_orig[_CTA_TUPLE_PROTO])[_CTA_PROTO_DST_PORT]
        # The id tells this flow from a later one of the same addresses and ports.
        name = b"".join(
            attribute(kind | (_NESTED if kind == _CTA_TUPLE_ORIG else 0), data[slice(*found[kind])])
            for kind in (_CTA_TUPLE_ORIG, _CTA_ZONE, _CTA_ID)
            if kind in found
        )
        return _Flow(data[slice(*address)], int.from_bytes(data[slice(*port)], "big"), name)

    return decode


def _is_local(routes: NetlinkSocket, family: Family, address: bytes) -> bool:
    """Whether packets to the address are for the host itself, as its routes have it."""
    header = _RTMSG.pack(_FAMILY[family], len(address) * 8, 0, 0, 0, 0, 0, 0, 0)
    request = header + attribute(_RTA_DST, address)
    route_type = Query(
        _RTM_GETROUTE,
        request,
        _RTM_NEWROUTE,
        lambda data, start, _end: int(_RTMSG.unpack_from(data, start)[7]),
    )
    try:
        return routes.get(route_type) == _RTN_LOCAL
    except NetlinkError:
        return False  # no route leads there
