"""Sets of IP addresses, of both families: what a host owns, what is used, what is free.

Addresses are numbers on one line: those of IPv4 first, those of IPv6 behind `_SIX`, which is a
multiple of every power of two that a block can have, so aligned there is aligned here.
"""

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from netd.plan.addresses import IPAddress, IPNetwork

_SIX = 1 << 128

Range = tuple[int, int]  # first number, and the one after the last


class Block(NamedTuple):
    """As many addresses as a power of two, aligned to it: what a prefix stands for."""

    first: int
    size: int

    def __str__(self) -> str:
        bits = 128 if self.first >= _SIX else 32
        return f"{address_at(self.first)}/{bits + 1 - self.size.bit_length()}"


class Space:
    """A set of addresses. Never changes."""

    __slots__ = ("ranges",)

    def __init__(self, ranges: tuple[Range, ...] = ()) -> None:
        """`ranges` ascend, are not empty and do not touch."""
        self.ranges = ranges

    @classmethod
    def of(cls, prefixes: Iterable[str]) -> "Space":
        """From networks in CIDR form, or single addresses. Raises `ValueError`."""
        return cls._joined(map(_range_of, prefixes))

    @classmethod
    def of_network(cls, network: IPNetwork) -> "Space":
        first = number_of(network.network_address)
        return cls(((first, first + network.num_addresses),))

    @classmethod
    def of_addresses(cls, addresses: Iterable[IPAddress]) -> "Space":
        numbers = map(number_of, addresses)
        return cls._joined((number, number + 1) for number in numbers)

    @classmethod
    def of_block(cls, block: Block) -> "Space":
        return cls(((block.first, block.first + block.size),))

    @classmethod
    def _joined(cls, ranges: Iterable[Range]) -> "Space":
        joined: list[Range] = []
        for first, end in sorted(ranges):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((first, end))
        return cls(tuple(joined))

    @property
    def size(self) -> int:
        """How many addresses."""
        return sum(end - first for first, end in self.ranges)

    @property
    def end(self) -> int:
        """The number after its last address."""
        return self.ranges[-1][1] if self.ranges else 0

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"Space.of({list(self.prefixes())})"

    def __contains__(self, address: IPAddress) -> bool:
        number = number_of(address)
        at = bisect_right(self.ranges, number, key=_first)
        return at > 0 and number < self.ranges[at - 1][1]

    def __or__(self, other: "Space") -> "Space":
        if not self.ranges or not other.ranges:
            return self if self.ranges else other
        return Space._joined((*self.ranges, *other.ranges))

    def __and__(self, other: "Space") -> "Space":
        if not self.ranges or not other.ranges:
            return NOWHERE
        return self - (self - other)

    def __sub__(self, other: "Space") -> "Space":
        if not self.ranges or not other.ranges:
            return self
        left: list[Range] = []
        holes = other.ranges
        at = 0
        for first, end in self.ranges:
            while at < len(holes) and holes[at][1] <= first:
                at += 1
            look, start = at, first  # the same hole may reach into the next range
            while look < len(holes) and holes[look][0] < end:
                if start < holes[look][0]:
                    left.append((start, holes[look][0]))
                start = max(start, holes[look][1])
                look += 1
            if start < end:
                left.append((start, end))
        return Space(tuple(left))

    def numbers(self, start: int) -> Iterator[int]:
        """The numbers of its addresses from `start` on, ascending."""
        at = max(0, bisect_right(self.ranges, start, key=_first) - 1)
        for first, end in self.ranges[at:]:
            yield from range(max(first, start), end)

    def blocks(self) -> Iterator[Block]:
        """The fewest blocks that are this set, ascending."""
        for start, end in self.ranges:
            first = start
            while first < end:
                aligned = first & -first or _SIX
                size = min(aligned, 1 << (end - first).bit_length() - 1)
                yield Block(first, size)
                first += size

    def prefixes(self) -> tuple[str, ...]:
        """The same in CIDR form."""
        return tuple(map(str, self.blocks()))


NOWHERE = Space()


def number_of(address: IPAddress) -> int:
    return int(address) if isinstance(address, IPv4Address) else _SIX + int(address)


def address_at(number: int) -> IPAddress:
    return IPv6Address(number - _SIX) if number >= _SIX else IPv4Address(number)


def _first(span: Range) -> int:
    return span[0]


@lru_cache(maxsize=16_384)
def _range_of(prefix: str) -> Range:
    network = ipaddress.ip_network(prefix)
    first = number_of(network.network_address)
    return first, first + network.num_addresses
