"""What rtnetlink says of tunnels, forwarding entries and neighbours.

As in `rtnl_decode`; but of entries there are thousands, so an answer is read by the layout of the
one before.
"""

import struct
import sys
from socket import AF_BRIDGE, AF_INET, AF_INET6, inet_ntop
from typing import Final, NamedTuple

import msgspec

from netd.kernel import uapi
from netd.kernel.attributes import Attributes, attributes
from netd.kernel.netlink import Query
from netd.kernel.uapi import NDMSG, NLA_TYPE_MASK, NLATTR


class TunnelInfo(msgspec.Struct, frozen=True, gc=False):
    """A VXLAN link. `flood` and `quiet` as in `plan.tunnels.Vxlan`."""

    vni: int
    port: int
    family: int
    flood: bool
    quiet: bool


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A neighbour or, with family AF_BRIDGE, a forwarding entry. `state` holds NUD_, `flags`
    NTF_ bits, `link` is an index, and `kinds` says which attributes there are; of those
    that are not the value is b"".
    """

    family: int
    link: int
    state: int
    flags: int
    mac: bytes
    destination: bytes
    kinds: frozenset[int]


def decode_tunnel(data: bytes, info: Attributes) -> TunnelInfo:
    """The VXLAN link whose IFLA_LINKINFO has the attributes `info`."""
    details = attributes(data, *info.get(uapi.IFLA_INFO_DATA, (0, 0)))
    flood, quiet = decode_port(data, info.get(uapi.IFLA_INFO_SLAVE_DATA, (0, 0)))
    return TunnelInfo(
        vni=int.from_bytes(_value(data, details, uapi.IFLA_VXLAN_ID), sys.byteorder),
        port=int.from_bytes(_value(data, details, uapi.IFLA_VXLAN_PORT), "big"),
        family=6 if any(_value(data, details, uapi.IFLA_VXLAN_LABEL)) else 4,
        flood=flood,
        quiet=quiet and not any(_value(data, details, uapi.IFLA_VXLAN_LEARNING)),
    )


def decode_port(data: bytes, place: tuple[int, int]) -> tuple[bool, bool]:
    """Whether a bridge floods its port, and whether it is quiet, as in `plan.tunnels.Vxlan`."""
    port = attributes(data, *place)
    multicast, broadcast, unicast, learns, suppresses = (
        any(_value(data, port, kind))
        for kind in (
            uapi.IFLA_BRPORT_MCAST_FLOOD,
            uapi.IFLA_BRPORT_BCAST_FLOOD,
            uapi.IFLA_BRPORT_UNICAST_FLOOD,
            uapi.IFLA_BRPORT_LEARNING,
            uapi.IFLA_BRPORT_NEIGH_SUPPRESS,
        )
    )
    return multicast, suppresses and not learns and not unicast and multicast == broadcast


def _value(data: bytes, found: Attributes, kind: int) -> bytes:
    start, end = found.get(kind, (0, 0))
    return data[start:end]


def destination_of(entry: Entry) -> str:
    """The address that the entry leads to, "" for none."""
    if not entry.destination:
        return ""
    address = inet_ntop(AF_INET6 if len(entry.destination) == 16 else AF_INET, entry.destination)
    # One of these leads to that host, but not to netd's tunnel.
    elsewhere = {uapi.NDA_PORT, uapi.NDA_VNI, uapi.NDA_IFINDEX}
    return address if elsewhere.isdisjoint(entry.kinds) else f"{address} by another tunnel"


class _Layout(NamedTuple):
    """Where a message has its attributes. `headers` are those of the attributes themselves."""

    unpack: struct.Struct
    headers: tuple[bytes, ...]
    mac: int  # its place in what is unpacked, 0 for none
    destination: int
    kinds: frozenset[int]


_FLAGS: Final = 10  # where struct ndmsg has them: they tell both halves of an entry apart

_layouts: Final[dict[tuple[int, int], _Layout]] = {}
"""The last layout by a message's length and flags. The kernel has a few, whatever the entries."""


def decode_entry(data: bytes, start: int, end: int) -> Entry:
    shape = (end - start, data[start + _FLAGS])
    layout = _layouts.get(shape)
    values = layout.unpack.unpack_from(data, start) if layout else ()
    if layout is None or values[5::2] != layout.headers:
        layout = _layouts[shape] = _layout_of(data, start, end)
        values = layout.unpack.unpack_from(data, start)
    return Entry(
        values[0],
        values[1],
        values[2],
        values[3],
        values[layout.mac] if layout.mac else b"",
        values[layout.destination] if layout.destination else b"",
        layout.kinds,
    )


def _layout_of(data: bytes, start: int, end: int) -> _Layout:
    parts = ["=BxxxiHBB"]  # struct ndmsg
    headers = []
    places: dict[int, int] = {}
    offset = start + NDMSG.size
    while offset + NLATTR.size <= end:
        length, kind = NLATTR.unpack_from(data, offset)
        if length < NLATTR.size or offset + length > end:
            break
        following = min((offset + length + 3) & ~3, end)
        parts.append(f"4s{length - 4}s{following - offset - length}x")
        headers.append(data[offset : offset + 4])
        places[kind & NLA_TYPE_MASK] = 4 + 2 * len(headers)
        offset = following
    return _Layout(
        unpack=struct.Struct("".join(parts)),
        headers=tuple(headers),
        mac=places.get(uapi.NDA_LLADDR, 0),
        destination=places.get(uapi.NDA_DST, 0),
        kinds=frozenset(places),
    )


def forwarding_of(index: int) -> Query[Entry]:
    """Both halves of all forwarding entries of a bridge port: the bridge's and its own."""
    payload = NDMSG.pack(AF_BRIDGE, index, 0, 0, 0)
    return Query(uapi.RTM_GETNEIGH, payload, uapi.RTM_NEWNEIGH, decode_entry)


NEIGHBOURS = Query(uapi.RTM_GETNEIGH, bytes(NDMSG.size), uapi.RTM_NEWNEIGH, decode_entry)
