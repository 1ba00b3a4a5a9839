"""netd's nftables table as the kernel tells of it: what its elements are, and a digest of the rest.

libnftables would make JSON of it, which takes 45 µs for each element, for tens of thousands.
Sources: include/uapi/linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c; libnftnl's
udata.h for comments.
"""

import errno
import hashlib
import struct
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network, summarize_address_range
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final, TypeVar

from netd.kernel.attributes import attribute, attributes
from netd.kernel.netlink import NetlinkError, NetlinkSocket, Query
from netd.kernel.uapi import NLA_TYPE_MASK, NLATTR
from netd.plan.firewall import SETS, is_owner
from netd.plan.objects import HOST_OWNER, SetElement

NFNL_SUBSYS_NFTABLES: Final = 10
NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE = 0, 1
NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN = 3, 4
NFT_MSG_NEWRULE, NFT_MSG_GETRULE = 6, 7
NFT_MSG_NEWSET, NFT_MSG_GETSET = 9, 10
NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM = 12, 13
NFT_MSG_NEWGEN, NFT_MSG_GETGEN = 15, 16
NFPROTO_INET: Final = 1
NFTA_TABLE: Final = 1  # the table's name, in messages of all kinds but NEWGEN
NFTA_TABLE_NAME, NFTA_TABLE_FLAGS = 1, 2
NFTA_CHAIN_HANDLE, NFTA_CHAIN_USE, NFTA_CHAIN_COUNTERS, NFTA_CHAIN_ID = 2, 6, 8, 11
NFTA_RULE_HANDLE, NFTA_RULE_POSITION, NFTA_RULE_POSITION_ID = 3, 6, 10
NFTA_SET_ID, NFTA_SET_HANDLE, NFTA_SET_TYPE, NFTA_SET_COUNT = 10, 16, 19, 20
NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 2, 3
NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_USERDATA = 1, 2, 6
NFTA_SET_ELEM_KEY_END: Final = 10
NFTA_GEN_ID: Final = 1
NFTNL_UDATA_SET_ELEM_COMMENT: Final = 0
NFGENMSG_SIZE: Final = 4
BE32: Final = struct.Struct("!I")
TABLE_NAME: Final = b"netd"
DIGESTS: Final = "digests"  # the set whose one element has the digests as its comment

_PROTOCOLS: Final = {6: "tcp", 17: "udp", 132: "sctp"}
_BYTES: Final = {"ifname": 16, "ipv6_addr": 16, "ipv6_prefix": 16}  # all others have 4
_KINDS: Final = (
    (NFT_MSG_GETTABLE, NFT_MSG_NEWTABLE),
    (NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN),
    (NFT_MSG_GETSET, NFT_MSG_NEWSET),
    (NFT_MSG_GETRULE, NFT_MSG_NEWRULE),
)
# What is not so for good: numbers that count what was ever made, or what there is just now.
_PASSING: Final = {
    NFT_MSG_NEWCHAIN: {
        NFTA_CHAIN_HANDLE,
        NFTA_CHAIN_USE,
        NFTA_CHAIN_COUNTERS,
        NFTA_CHAIN_ID,
    },
    NFT_MSG_NEWSET: {NFTA_SET_ID, NFTA_SET_HANDLE, NFTA_SET_TYPE, NFTA_SET_COUNT},
    NFT_MSG_NEWRULE: {NFTA_RULE_HANDLE, NFTA_RULE_POSITION, NFTA_RULE_POSITION_ID},
}

T = TypeVar("T")
Raw = tuple[bytes, bytes, bytes, bytes]  # key, end of the key's range, value, comment


def generation(netfilter: NetlinkSocket) -> int:
    """A number that each transaction on the namespace's tables makes another one."""

    def decode(data: bytes, start: int, end: int) -> int:
        at, _ = attributes(data, start + NFGENMSG_SIZE, end)[NFTA_GEN_ID]
        number: int = BE32.unpack_from(data, at)[0]
        return number

    return netfilter.get(
        Query(_message(NFT_MSG_GETGEN), bytes(NFGENMSG_SIZE), _message(NFT_MSG_NEWGEN), decode)
    )


def list_digest(netfilter: NetlinkSocket) -> str:
    """A digest of the table, its chains, sets and rules, without elements; "" without a table.

    Raises NetlinkError.
    """
    found: list[bytes] = []
    for ask, answer in _KINDS:
        query = Query(_message(ask), _of_table(), _message(answer), _describer(answer))
        found += [described for described in _dump(netfilter, query) if described]
    return hashlib.sha256(b"".join(found)).hexdigest()[:16] if found else ""


def recorded_digests(netfilter: NetlinkSocket) -> tuple[str, str] | None:
    """The digests that were put into the table when it was loaded."""
    for _, _, _, comment in _raw_elements(netfilter, DIGESTS):
        text, _, listed = comment.decode(errors="replace").partition(" ")
        return text, listed
    return None


def elements(netfilter: NetlinkSocket) -> Iterator[SetElement]:
    """The elements of netd's sets. One without netd's comment counts as the host's.

    Raises NetlinkError.
    """
    owners: dict[bytes, str] = {}
    for name, spec in SETS.items():
        key_of, value_of = _reader(spec.key), _reader(spec.value)
        for key, key_end, value, comment in _raw_elements(netfilter, name):
            owner = owners.get(comment)
            if owner is None:
                text = comment.decode(errors="replace")
                owner = owners[comment] = text if is_owner(text) else HOST_OWNER
            yield SetElement(
                owner=owner,
                set_name=name,
                element=key_of(key, key_end),
                value=value_of(value, b"") if spec.value else (),
            )


def _message(kind: int) -> int:
    return NFNL_SUBSYS_NFTABLES << 8 | kind


def _of_table() -> bytes:
    return bytes((NFPROTO_INET, 0, 0, 0)) + attribute(NFTA_TABLE, TABLE_NAME + b"\0")


def _describer(kind: int) -> Callable[[bytes, int, int], bytes]:
    """What a message says that holds for good; b"" of another table."""
    passing = _PASSING.get(kind, set())
    kept = {NFTA_TABLE_NAME, NFTA_TABLE_FLAGS} if kind == NFT_MSG_NEWTABLE else None

    def decode(data: bytes, start: int, end: int) -> bytes:
        found = attributes(data, start + NFGENMSG_SIZE, end)
        first, last = found[NFTA_TABLE]
        # Not all kernels filter what they list.
        if data[start] != NFPROTO_INET or data[first:last].rstrip(b"\0") != TABLE_NAME:
            return b""
        said = [
            attribute(each, data[first:last])
            for each, (first, last) in sorted(found.items())
            if (each in kept if kept is not None else each not in passing)
        ]
        return bytes((kind,)) + b"".join(said)

    return decode


def _raw_elements(netfilter: NetlinkSocket, set_name: str) -> Iterator[Raw]:
    name = attribute(NFTA_SET_ELEM_LIST_SET, set_name.encode() + b"\0")
    query = Query(
        _message(NFT_MSG_GETSETELEM),
        _of_table() + name,
        _message(NFT_MSG_NEWSETELEM),
        _decode_elements,
    )
    for some in _dump(netfilter, query):
        yield from some


def _dump(netfilter: NetlinkSocket, query: Query[T]) -> list[T]:
    """What there is of the table's; nothing without the table, or without the set asked for."""
    try:
        return netfilter.dump(query)
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return []
        raise


def _decode_elements(data: bytes, start: int, end: int) -> list[Raw]:
    place = attributes(data, start + NFGENMSG_SIZE, end).get(NFTA_SET_ELEM_LIST_ELEMENTS)
    if place is None:
        return []
    offset, last = place
    unpack = NLATTR.unpack_from
    found = []
    while offset + 4 <= last:
        length, _ = unpack(data, offset)
        if length < 4:
            break
        key = key_end = value = comment = b""
        at, until = offset + 4, offset + length
        while at + 4 <= until:
            size, kind = unpack(data, at)
            if size < 4:
                break
            kind &= NLA_TYPE_MASK
            if kind == NFTA_SET_ELEM_KEY:
                key = data[at + 8 : at + size]  # within it one attribute, NFTA_DATA_VALUE
            elif kind == NFTA_SET_ELEM_DATA:
                value = data[at + 8 : at + size]
            elif kind == NFTA_SET_ELEM_USERDATA:
                comment = _comment(data[at + 4 : at + size])
            elif kind == NFTA_SET_ELEM_KEY_END:
                key_end = data[at + 8 : at + size]
            at += (size + 3) & ~3
        found.append((key, key_end, value, comment))
        offset += (length + 3) & ~3
    return found


def _comment(userdata: bytes) -> bytes:
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == NFTNL_UDATA_SET_ELEM_COMMENT:
            return userdata[at + 2 : at + 2 + length].rstrip(b"\0")
        at += 2 + length
    return b""


def _reader(types: tuple[str, ...]) -> Callable[[bytes, bytes], tuple[str, ...]]:
    """Reads a key or a value of these types, the parts of which fill whole registers."""
    if len(types) > 1 and types[-1] == "slot":  # what many elements have in common is read once
        common: dict[bytes, tuple[str, ...]] = {}
        read_common = _reader(types[:-1])

        def read_slot(data: bytes, _end: bytes) -> tuple[str, ...]:
            head = common.get(data[:-4])
            if head is None:
                head = common[data[:-4]] = read_common(data[:-4], b"")
            return (*head, str(int.from_bytes(data[-4:], sys.byteorder)))

        return read_slot
    places = []
    at = 0
    for kind in types:
        size = _BYTES.get(kind, 4)
        places.append((kind, at, at + size))
        at += size

    known: dict[bytes, tuple[str, ...]] = {}  # many elements have the same target

    def read(data: bytes, end: bytes) -> tuple[str, ...]:
        found = known.get(data + end)
        if found is None:
            found = known[data + end] = tuple(
                [_text(kind, data[at:to], end[at:to]) for kind, at, to in places]
            )
        return found

    return read


def _text(kind: str, data: bytes, end: bytes) -> str:
    match kind:
        case "ifname":
            return data.rstrip(b"\0").decode(errors="replace")
        case "ipv4_addr":
            return inet_ntop(AF_INET, data)
        case "ipv6_addr":
            text = inet_ntop(AF_INET6, data)
            return str(ip_address(text)) if "." in text else text  # ::ffff:1.2.3.4
        case "ipv4_prefix" | "ipv6_prefix":
            return _prefix(data, end or data)
        case "inet_proto":
            return _PROTOCOLS.get(data[0], str(data[0]))
        case "inet_service":
            return str(int.from_bytes(data[:2], "big"))
        case "client":
            return str(int.from_bytes(data, sys.byteorder))
        case _:
            raise ValueError(f"no element of netd's has the type {kind}")


def _prefix(first: bytes, last: bytes) -> str:
    """A range in CIDR form, or `first-last` if it is none of netd's."""
    low, high = ip_address(first), ip_address(last)
    if low == high:
        return str(ip_network(low))
    try:
        (only,) = summarize_address_range(low, high)
    except ValueError:
        return f"{low}-{high}"
    return str(only)
