"""The kernel's hash of some bytes, as the firewall's rules can ask for it.

Source: include/linux/jhash.h, after Bob Jenkins' lookup3; net/netfilter/nft_hash.c.
"""

import sys
from typing import Final

_INITIAL: Final = 0xDEADBEEF
_WORD: Final = 0xFFFF_FFFF


def jhash(data: bytes, seed: int) -> int:
    """A number of 32 bits. The kernel reads words in its own byte order, but for the last ones."""
    a = b = c = (_INITIAL + len(data) + seed) & _WORD
    while len(data) > 12:
        words = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in (0, 4, 8)]
        a, b, c = _mixed(*(sum(pair) & _WORD for pair in zip((a, b, c), words, strict=True)))
        data = data[12:]
    if not data:
        return c
    rest = data.ljust(12, b"\0")
    words = [int.from_bytes(rest[at : at + 4], "little") for at in (0, 4, 8)]
    return _last(*(sum(pair) & _WORD for pair in zip((a, b, c), words, strict=True)))


def scaled(number: int, modulus: int) -> int:
    """What the rules' `mod` makes of a number of 32 bits: one below `modulus`."""
    return number * modulus >> 32


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for shift in (4, 6, 8, 16, 19, 4):
        a = (a - c & _WORD) ^ _rotated(c, shift)
        c = c + b & _WORD
        a, b, c = b, c, a
    return a, b, c


def _last(a: int, b: int, c: int) -> int:
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotated(b, shift)) & _WORD
        a, b, c = b, c, a
    return b  # which the last of the steps has made


def _rotated(word: int, shift: int) -> int:
    return (word << shift | word >> 32 - shift) & _WORD
