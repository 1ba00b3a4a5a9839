"""Bytes of records (RFC 1035, 3.3), and names of addresses."""

import ipaddress
import itertools
import re
import struct
from collections.abc import Callable
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

NAME_MAX: Final = 253  # characters, without the last dot; RFC 1035, 2.3.4
_STRING_MAX: Final = 255  # bytes of one character-string
_SRV: Final = struct.Struct("!HHH")
_SOA: Final = struct.Struct("!IIIII")
_NAME: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\Z")
_REVERSE_4: Final = ".in-addr.arpa"
_REVERSE_6: Final = ".ip6.arpa"
_HEX: Final = frozenset("0123456789abcdef")


def is_name(text: str) -> bool:
    """Whether `text` is a name of plain labels that fits into a message."""
    return len(text) <= NAME_MAX and _NAME.match(text) is not None


def name_wire(text: str) -> bytes:
    """The bytes of a name of plain labels (see `is_name`)."""
    return b"".join(bytes((len(label),)) + label.encode() for label in text.split(".")) + b"\0"


def srv_wire(priority: int, weight: int, port: int, target: str) -> bytes:
    """RFC 2782: the target is not compressed."""
    return _SRV.pack(priority, weight, port) + name_wire(target)


def soa_wire(primary: str, mailbox: str, times: tuple[int, int, int, int, int]) -> bytes:
    """`times`: serial, refresh, retry, expire, minimum."""
    return name_wire(primary) + name_wire(mailbox) + _SOA.pack(*times)


def txt_wire(text: str) -> bytes:
    """One text; what does not fit into one character-string goes into several."""
    data = text.encode()
    parts = [data[at : at + _STRING_MAX] for at in range(0, len(data), _STRING_MAX)] or [b""]
    return b"".join(bytes((len(part),)) + part for part in parts)


def txt_text(text: str) -> str:
    """The same for people: quoted, with what is not printable ASCII as `\\DDD`."""
    shown = []
    for byte in text.encode():
        char = chr(byte)
        if char in '"\\':
            shown.append("\\" + char)
        else:
            shown.append(char if 0x20 <= byte < 0x7F else f"\\{byte:03d}")
    return '"' + "".join(shown) + '"'


def canonical(text: str) -> str | None:
    """An address in its one form, IPv4 also where it is mapped into IPv6; None: it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def is_reverse(name: str) -> bool:
    return name.endswith((_REVERSE_4, _REVERSE_6))


def reversed_address(name: str) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for; None: not a whole one."""
    if name.endswith(_REVERSE_4):
        octets = name.removesuffix(_REVERSE_4).split(".")[::-1]
        return ".".join(octets) if len(octets) == 4 and all(map(_is_octet, octets)) else None
    nibbles = name.removesuffix(_REVERSE_6).split(".")[::-1]
    if len(nibbles) != 32 or not all(map(_is_nibble, nibbles)):
        return None
    return str(ipaddress.IPv6Address(int("".join(nibbles), 16)))


def reversed_part(name: str) -> tuple[IPNetwork | None, bool]:
    """What a name below in-addr.arpa or ip6.arpa stands for, and whether that is all of it.

    An address, as a network of one; or that part of all addresses which its labels leave open.
    """
    if name.endswith(_REVERSE_4):
        labels = name.removesuffix(_REVERSE_4).split(".")
        octets = _trailing(labels, 4, _is_octet)
        number = int.from_bytes(bytes(map(int, octets)).ljust(4, b"\0"), "big")
        part: IPNetwork = ipaddress.IPv4Network((number, 8 * len(octets)))
    else:
        labels = name.removesuffix(_REVERSE_6).split(".")
        octets = _trailing(labels, 32, _is_nibble)
        number = int("".join(octets).ljust(32, "0"), 16)
        part = ipaddress.IPv6Network((number, 4 * len(octets)))
    return (part if octets else None), len(octets) == len(labels)


def _trailing(labels: list[str], most: int, good: Callable[[str], bool]) -> list[str]:
    """The last labels that are good, the last one first."""
    return list(itertools.takewhile(good, labels[: -most - 1 : -1]))


def hex_address(label: str) -> IPAddress | None:
    """The address that 8 or 32 hexadecimal digits are."""
    if not set(label) <= _HEX:
        return None
    if len(label) == 8:
        return ipaddress.IPv4Address(int(label, 16))
    return ipaddress.IPv6Address(int(label, 16)) if len(label) == 32 else None


def _is_nibble(label: str) -> bool:
    return len(label) == 1 and label in _HEX


def _is_octet(label: str) -> bool:
    return (
        0 < len(label) <= 3
        and label.isascii()
        and label.isdigit()
        and int(label) <= 255
        and (label == "0" or label[0] != "0")
    )
