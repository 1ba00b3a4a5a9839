"""Netlink attributes (struct nlattr, include/uapi/linux/netlink.h): writing and finding them."""

from netd.kernel.uapi import NLA_TYPE_MASK, NLATTR, U32

Attributes = dict[int, tuple[int, int]]  # type -> where its value begins and ends


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding."""
    size = len(value)
    return NLATTR.pack(4 + size, kind) + value + b"\0" * (-size & 3)


def u32(kind: int, value: int) -> bytes:
    return NLATTR.pack(8, kind) + U32.pack(value)


def u8(kind: int, value: int) -> bytes:
    return NLATTR.pack(5, kind) + bytes((value, 0, 0, 0))


def attributes(data: bytes, offset: int, end: int) -> Attributes:
    """Where each attribute between `offset` and `end` has its value."""
    found = {}
    unpack = NLATTR.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = (offset + 4, offset + length)
        offset += (length + 3) & ~3
    return found
