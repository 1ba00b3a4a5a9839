"""Announcements of neighbours that nobody has asked for.

Who has asked for an address before it was known asks again after a second only; an announcement
ends the wait (RFC 826; RFC 4861, section 7.2.6). The kernel's bridge passes them to containers,
but not into tunnels, whose ports suppress neighbour discovery.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable
from typing import Final

from netd.kernel.checksum import internet_checksum
from netd.plan.tunnels import Neighbour

_EVERYBODY4: Final = b"\xff" * 6
_EVERYBODY6: Final = bytes.fromhex("333300000001")
_ALL_NODES: Final = ipaddress.IPv6Address("ff02::1").packed
_ETHERNET: Final = struct.Struct("!6s6sH")
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_ADVERTISEMENT: Final = struct.Struct("!BBHI16sBB6s")  # RFC 4861, section 4.4, and one option
_OVERRIDE: Final = 1 << 29
_ICMPV6: Final = 58
# The bridge is gone or down, or somebody who listens there takes nothing more just now.
_PASSED_OVER: Final = (errno.ENXIO, errno.ENODEV, errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN)


def send_announcements(neighbours: Iterable[Neighbour]) -> None:
    """Send one for each on its bridge, of the network that the calling thread is in.

    A bridge that is gone or cannot send now is passed over. Raises OSError otherwise.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_PACKET, kind, 0) as made:
        for neighbour in neighbours:
            try:
                made.sendto(frame(neighbour), (neighbour.link, 0))
            except OSError as error:
                if error.errno not in _PASSED_OVER:
                    raise


def frame(neighbour: Neighbour) -> bytes:
    """The Ethernet frame by which the neighbour tells of itself."""
    address = ipaddress.ip_address(neighbour.address)
    mac = bytes.fromhex(neighbour.mac.replace(":", ""))
    if address.version == 4:
        request = _ARP.pack(1, 0x0800, 6, 4, 1, mac, address.packed, bytes(6), address.packed)
        return _ETHERNET.pack(_EVERYBODY4, mac, 0x0806) + request

    def advertisement(checksum: int) -> bytes:
        return _ADVERTISEMENT.pack(136, 0, checksum, _OVERRIDE, address.packed, 2, 1, mac)

    length = _ADVERTISEMENT.size
    pseudo = address.packed + _ALL_NODES + struct.pack("!II", length, _ICMPV6)
    body = advertisement(internet_checksum(pseudo + advertisement(0)))
    head = _IPV6.pack(6 << 28, length, _ICMPV6, 255, address.packed, _ALL_NODES)
    return _ETHERNET.pack(_EVERYBODY6, mac, 0x86DD) + head + body
