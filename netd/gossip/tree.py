"""A hash tree of two levels: what two members have is compared by it in one packet.

Each item has a fingerprint of 64 bits. A leaf is the exclusive or of its items' fingerprints,
the root that of the leaves, so changes are made in place and trees can be added up.
"""

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

from netd.gossip.messages import LEAVES

_SHORT: Final = struct.Struct(f"<{LEAVES}I")


def fingerprint(*parts: bytes) -> int:
    """63 bits that stand for these parts."""
    digest = hashlib.blake2b(b"".join(parts), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Tree:
    """The leaves, and their sum `root`."""

    __slots__ = ("_leaves", "root")

    def __init__(self) -> None:
        self._leaves = [0] * LEAVES
        self.root = 0

    def flip(self, leaf: int, value: int) -> None:
        """Add an item's fingerprint to its leaf, or take it away: the two are the same."""
        self._leaves[leaf] ^= value
        self.root ^= value

    def leaves(self) -> list[int]:
        return self._leaves


def packed(trees: Iterable[Tree]) -> bytes:
    """The leaves of all trees together, 32 bits of each."""
    total = [0] * LEAVES
    for tree in trees:
        total = [mine ^ more for mine, more in zip(total, tree.leaves(), strict=True)]
    return _SHORT.pack(*(leaf & 0xFFFFFFFF for leaf in total))


def differing(mine: bytes, theirs: bytes) -> list[int]:
    """The numbers of the leaves that are not the same in two results of `packed`."""
    pairs = zip(_SHORT.unpack(mine), _SHORT.unpack(theirs), strict=True)
    return [number for number, (one, other) in enumerate(pairs) if one != other]
