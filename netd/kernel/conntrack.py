"""Connection tracking: flows that must not outlive the publishing of a port.

The first packet of a flow decides for all others whether it is translated. TCP clients open
new flows; a UDP client that goes on sending keeps the old one alive, and would never reach a
port published later, or would reach for ever one that is no more. The same holds of virtual
addresses and their instances; there, TCP flows are ended as well when an instance's time is over.

What is asked is written by pyroute2. The flows in the answer are read here: there may be
hundreds of thousands, for each of which pyroute2 takes 60 µs instead of 4, and nothing else is
done to the host's network meanwhile.

Sources: include/uapi/linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c
of the kernel; the filter needs Linux 5.8.
"""

import errno
import functools
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

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
from netd.model.service import Transport
from netd.plan.ports import Family, HeldPort
from netd.plan.virtual import Flows

T = TypeVar("T")

_COUNT = "net/netfilter/nf_conntrack_count"
_SUBSYSTEM = NFNL_SUBSYS_CTNETLINK << 8
_HEADER_SIZE = nfgen_msg.get_size()
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE = 1, 2, 12, 18
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_SRC: dict[int, int] = {4: 1, 6: 3}
_CTA_IP_DST: dict[int, int] = {4: 2, 6: 4}
_CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 2, 3
_PROTOCOLS: dict[Transport, int] = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_RTN_LOCAL: int = rtypes["RTN_LOCAL"]
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class _Flow(NamedTuple):
    """Where the flow's first packet was sent to, and what names the flow in a request."""

    address: str
    port: int
    name: bytes


class _Translated(NamedTuple):
    """A flow, and where its answers come from."""

    flow: _Flow
    target: str
    target_port: int


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
    only = NFCTAttrTuple(proto=socket.IPPROTO_UDP, dport=only_port)
    found = conntrack.dump(_flows(family, only, _decoder(family)))
    return _forget(conntrack, [each.name for each in found if _concerns(each, wanted, is_local)])


def forget_flows(flows: Iterable[Flows]) -> int:
    """Forget flows to virtual addresses; return how many there were. Raises as `flush_udp`.

    The next packet of a TCP connection is then taken for a new one's: it gets to some instance
    that knows nothing of it, which resets the connection.
    """
    wanted: dict[tuple[Family, Transport], set[Flows]] = {}
    for each in flows:
        family: Family = 6 if ":" in each.address else 4
        wanted.setdefault((family, each.protocol), set()).add(each)
    if not wanted or sysctl.read(_COUNT) == "0":
        return 0
    with NetlinkSocket(NETLINK_NETFILTER) as conntrack:
        return sum(_forget_of(conntrack, *key, some) for key, some in wanted.items())


def _forget_of(
    conntrack: NetlinkSocket, family: Family, protocol: Transport, wanted: set[Flows]
) -> int:
    places = {(each.address, each.port) for each in wanted}
    address, port = next(iter(places)) if len(places) == 1 else (None, None)
    if family == 6:
        # By an IPv6 address Linux 6.18 leaves out what has it, and nothing else:
        # ctnetlink_filter_match_tuple(). tests/netns/test_virtual_flows.py shows it.
        address = None
    only = NFCTAttrTuple(_FAMILY[family], daddr=address, proto=_PROTOCOLS[protocol], dport=port)
    whole = {place for place in places if _all_to(protocol, *place) in wanted}
    parts = {(each.address, each.port, each.target, each.target_port) for each in wanted}
    found = conntrack.dump(_flows(family, only, _translated_decoder(family)))
    return _forget(
        conntrack,
        [
            each.flow.name
            for each in found
            if (each.flow.address, each.flow.port) in whole
            or (each.flow.address, each.flow.port, each.target, each.target_port) in parts
        ],
    )


def _all_to(protocol: Transport, address: str, port: int) -> Flows:
    return Flows(protocol=protocol, address=address, port=port)


def _forget(conntrack: NetlinkSocket, names: Sequence[bytes]) -> int:
    """Have the kernel delete flows; how many of them were there."""
    refused = conntrack.send(
        [Message(_SUBSYSTEM | IPCTNL_MSG_CT_DELETE, 0, name) for name in names]
    )
    for error in refused.values():
        if error.errno != errno.ENOENT:  # it ended by itself meanwhile
            raise error
    return len(names) - len(refused)


def _concerns(flow: _Flow, wanted: dict[int, set[str]], is_local: Callable[[str], bool]) -> bool:
    addresses = wanted.get(flow.port, set())
    return flow.address in addresses or ("" in addresses and is_local(flow.address))


def _flows(family: Family, only: NFCTAttrTuple, decode: Callable[[bytes, int, int], T]) -> Query[T]:
    """The flows, of which the kernel leaves out those whose first packet was not like `only`."""
    header = bytes([_FAMILY[family], 0, 0, 0])  # struct nfgenmsg
    original = nested(*only.attrs())  # which sets the flags
    flags = nested(("CTA_FILTER_ORIG_FLAGS", only.flags), ("CTA_FILTER_REPLY_FLAGS", 0))
    request = encoded(nfct_msg, ("CTA_TUPLE_ORIG", original), ("CTA_FILTER", flags))
    answer = _SUBSYSTEM | IPCTNL_MSG_CT_NEW
    return Query(_SUBSYSTEM | IPCTNL_MSG_CT_GET, header + request[_HEADER_SIZE:], answer, decode)


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


def _translated_decoder(family: Family) -> Callable[[bytes, int, int], _Translated]:
    decode_flow, source = _decoder(family), _CTA_IP_SRC[family]

    def decode(data: bytes, start: int, end: int) -> _Translated:
        reply = attributes(data, *attributes(data, start + _HEADER_SIZE, end)[_CTA_TUPLE_REPLY])
        address = attributes(data, *reply[_CTA_TUPLE_IP])[source]
        port = attributes(data, *reply[_CTA_TUPLE_PROTO])[_CTA_PROTO_SRC_PORT]
        return _Translated(
            flow=decode_flow(data, start, end),
            target=socket.inet_ntop(_FAMILY[family], data[slice(*address)]),
            target_port=int.from_bytes(data[slice(*port)], "big"),
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
