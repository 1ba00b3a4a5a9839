"""Connection tracking: flows that must not outlive the publishing of a port.

The first packet of a flow decides for all others whether it is translated. TCP clients open
new flows; a UDP client that goes on sending keeps the old one alive, and would never reach a
port published later, or would reach for ever one that is no more.

What is asked is written by pyroute2. The flows in the answer are read here: there may be
hundreds of thousands, for each of which pyroute2 takes 60 µs instead of 4, and nothing else is
done to the host's network meanwhile.

Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c
of the kernel; the filter needs Linux 5.8.
"""

import errno
import functools
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyroute2.netlink import NETLINK_NETFILTER
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_CTNETLINK, nfgen_msg
from pyroute2.netlink.nfnetlink.nfctsocket import (
    IPCTNL_MSG_CT_DELETE,
    IPCTNL_MSG_CT_GET,
    IPCTNL_MSG_CT_NEW,
    NFCTAttrTuple,
    nfct_msg,
)
from pyroute2.netlink.rtnl import rtypes
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netd.kernel import sysctl
from netd.kernel.attributes import attributes
from netd.kernel.codec import encoded, nested
from netd.kernel.netlink import Message, NetlinkError, NetlinkSocket, Query
from netd.kernel.rtnl_decode import decode_route
from netd.kernel.uapi import NLATTR, RTM_GETROUTE, RTM_NEWROUTE
from netd.plan.ports import Family, HeldPort

_COUNT = "net/netfilter/nf_conntrack_count"
_SUBSYSTEM = NFNL_SUBSYS_CTNETLINK << 8
_HEADER_SIZE = nfgen_msg.get_size()
_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE = 1, 12, 18
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_DST: dict[int, int] = {4: 2, 6: 4}
_CTA_PROTO_DST_PORT = 3
_RTN_LOCAL: int = rtypes["RTN_LOCAL"]
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class _Flow(NamedTuple):
    """Where the flow's first packet was sent to, and what names the flow in a request."""

    address: str
    port: int
    name: bytes


def flush_udp(ports: Sequence[HeldPort]) -> int:
    """Forget UDP flows to these host ports; return how many there were.

    Of a port on all addresses only flows to the host itself are meant: a container's question
    to a name server elsewhere has a well-known port too, and keeps its flow. Works in the
    network namespace of the calling thread. Raises NetlinkError when the kernel does not list
    its flows.
    """
    wanted: dict[Family, dict[int, set[str]]] = {}
    for held in ports:
        if held.protocol == "udp":
            wanted.setdefault(held.family, {}).setdefault(held.port, set()).add(held.address)
    if not wanted or sysctl.read(_COUNT) == "0":
        return 0  # the kernel would walk its whole table, which takes 10 ms even when empty
    with NetlinkSocket(NETLINK_NETFILTER) as conntrack, NetlinkSocket() as routes:
        return sum(_flush(conntrack, routes, *each) for each in wanted.items())


def _flush(
    conntrack: NetlinkSocket, routes: NetlinkSocket, family: Family, wanted: dict[int, set[str]]
) -> int:
    """Forget the flows to `wanted`: by port the addresses, "" for all of the host."""
    only_port = next(iter(wanted)) if len(wanted) == 1 else None
    is_local = functools.cache(functools.partial(_is_local, routes, family))
    doomed = [
        Message(_SUBSYSTEM | IPCTNL_MSG_CT_DELETE, 0, flow.name)
        for flow in conntrack.dump(_udp_flows(family, only_port))
        if _concerns(flow, wanted, is_local)
    ]
    refused = conntrack.send(doomed)
    for error in refused.values():
        if error.errno != errno.ENOENT:  # it ended by itself meanwhile
            raise error
    return len(doomed) - len(refused)


def _concerns(flow: _Flow, wanted: dict[int, set[str]], is_local: Callable[[str], bool]) -> bool:
    addresses = wanted.get(flow.port, set())
    return flow.address in addresses or ("" in addresses and is_local(flow.address))


def _udp_flows(family: Family, port: int | None) -> Query[_Flow]:
    """The flows, of which the kernel leaves out what is not UDP, or not to that one port."""
    header = bytes([_FAMILY[family], 0, 0, 0])  # struct nfgenmsg
    answer = _SUBSYSTEM | IPCTNL_MSG_CT_NEW
    return Query(
        _SUBSYSTEM | IPCTNL_MSG_CT_GET, header + _udp_filter(port), answer, _decoder(family)
    )


@functools.lru_cache(maxsize=1)  # both families are asked the same
def _udp_filter(port: int | None) -> bytes:
    only = NFCTAttrTuple(proto=socket.IPPROTO_UDP, dport=port)
    original = nested(*only.attrs())  # which sets the flags
    flags = nested(("CTA_FILTER_ORIG_FLAGS", only.flags), ("CTA_FILTER_REPLY_FLAGS", 0))
    request = encoded(nfct_msg, ("CTA_TUPLE_ORIG", original), ("CTA_FILTER", flags))
    return request[_HEADER_SIZE:]


def _decoder(family: Family) -> Callable[[bytes, int, int], _Flow]:
    destination = _CTA_IP_DST[family]

    def decode(data: bytes, start: int, end: int) -> _Flow:
        found = attributes(data, start + _HEADER_SIZE, end)
        tuple_orig = attributes(data, *found[_CTA_TUPLE_ORIG])
        address = attributes(data, *tuple_orig[_CTA_TUPLE_IP])[destination]
        port = attributes(data, *tuple_orig[_CTA_TUPLE_PROTO])[_CTA_PROTO_DST_PORT]
        # As the kernel wrote them, be there more in the tuple (a zone of one direction) or not.
        # The id tells this flow from a later one of the same addresses and ports.
        names = [found[kind] for kind in (_CTA_TUPLE_ORIG, _CTA_ZONE, _CTA_ID) if kind in found]
        whole = [data[first - NLATTR.size : (last + 3) & ~3] for first, last in names]
        return _Flow(
            address=socket.inet_ntop(_FAMILY[family], data[slice(*address)]),
            port=int.from_bytes(data[slice(*port)], "big"),
            name=data[start : start + _HEADER_SIZE] + b"".join(whole),
        )

    return decode


def _is_local(routes: NetlinkSocket, family: Family, address: str) -> bool:
    """Whether packets to the address are for the host itself, as its routes have it."""
    bits = 32 if family == 4 else 128
    request = encoded(rtmsg, ("RTA_DST", address), family=_FAMILY[family], dst_len=bits)
    try:
        route = routes.get(Query(RTM_GETROUTE, request, RTM_NEWROUTE, decode_route))
    except NetlinkError:
        return False  # no route leads there
    return route.kind == _RTN_LOCAL
