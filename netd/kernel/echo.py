"""Echo requests of a given size that must not be fragmented: what gets through, and what not."""

import asyncio
import errno
import ipaddress
import os
import socket
import struct
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from netd.kernel.checksum import internet_checksum
from netd.plan.facts import Echo

_HEADER: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_REQUEST: Final = {4: 8, 6: 128}  # RFC 792, RFC 4443
_REPLY: Final = {4: 0, 6: 129}
_IP_BYTES: Final = {4: 20, 6: 40}
_TRIES: Final = 3  # one packet may be lost without meaning anything

# include/uapi/linux/in.h and in6.h: do not fragment, whatever was learned of the way before.
_MTU_DISCOVER: Final = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
_PMTUDISC_PROBE: Final = 3
_RECVERR: Final = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
_FILTER: Final = {4: (255, 1), 6: (socket.IPPROTO_ICMPV6, 1)}  # SOL_RAW, ICMP_FILTER
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")  # struct sock_extended_err, linux/errqueue.h


async def echo(address: str, size: int, timeout_s: float) -> Echo:
    """Have `address` answer a packet of `size` bytes, the IP header included.

    Asks three times in that time. Raises OSError when there can be no socket for it.
    """
    target = ipaddress.ip_address(address)
    with _socket(target) as asking:
        try:
            asking.connect((address, 0))
            async with asyncio.timeout(timeout_s):
                return await _ask(asking, target, size, timeout_s / _TRIES)
        except TimeoutError:
            return Echo(rtt_ms=None)
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM):
                return Echo(rtt_ms=None)
            raise


async def _ask(
    asking: socket.socket, target: IPv4Address | IPv6Address, size: int, pause_s: float
) -> Echo:
    """Send, wait, and send again. Ends when an answer came, or word of a smaller MTU."""
    identifier = int.from_bytes(os.urandom(2))
    began: dict[int, float] = {}
    for sequence in range(_TRIES):
        began[sequence] = time.perf_counter()
        try:
            asking.send(_request(target, size, identifier, sequence))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return Echo(rtt_ms=None, mtu=_told_mtu(asking))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                answer = await _answer(asking, target, identifier)
                if isinstance(answer, Echo):
                    return answer
                if (sent := began.get(answer)) is not None:
                    return Echo(rtt_ms=round((time.perf_counter() - sent) * 1000, 3))
    return Echo(rtt_ms=None)


async def _answer(
    asking: socket.socket, target: IPv4Address | IPv6Address, identifier: int
) -> int | Echo:
    """The sequence number of an answer, or that a packet was too large."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(asking, 65536)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return Echo(rtt_ms=None, mtu=_told_mtu(asking))
            _told_mtu(asking)  # the host may yet become reachable; the next try will tell
            continue
        if target.version == 4:  # raw IPv4 sockets get the IP header as well
            data = data[(data[0] & 0x0F) * 4 :]
        if len(data) < _HEADER.size:
            continue
        kind, _, _, found, sequence = _HEADER.unpack_from(data)
        if kind == _REPLY[target.version] and found == identifier:
            return int(sequence)


def _request(target: IPv4Address | IPv6Address, size: int, identifier: int, sequence: int) -> bytes:
    version = target.version
    body = bytes(max(0, size - _IP_BYTES[version] - _HEADER.size))
    packet = _HEADER.pack(_REQUEST[version], 0, 0, identifier, sequence) + body
    if version == 6:
        return packet  # the kernel puts the checksum in: RFC 3542, section 3.1
    checksum = internet_checksum(packet)
    return _HEADER.pack(_REQUEST[version], 0, checksum, identifier, sequence) + body


def _told_mtu(asking: socket.socket) -> int | None:
    """The MTU that the error queue tells of, by the kernel itself or by a router. Empties it."""
    told = None
    while True:
        try:
            _, ancillary, _, _ = asking.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            return told
        for _, _, data in ancillary:
            if len(data) >= _EXTENDED_ERROR.size:
                number, *_, mtu, _ = _EXTENDED_ERROR.unpack_from(data)
                if number == errno.EMSGSIZE and mtu:
                    told = int(mtu)


def _socket(target: IPv4Address | IPv6Address) -> socket.socket:
    """A raw socket that gets echo replies only, and word of packets that were too large."""
    version = target.version
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP)
        if version == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        made.setblocking(False)
        made.setsockopt(*_MTU_DISCOVER[version], _PMTUDISC_PROBE)
        made.setsockopt(*_RECVERR[version], 1)
        made.setsockopt(*_FILTER[version], _all_but(version, _REPLY[version]))
    except OSError:
        made.close()
        raise
    return made


def _all_but(version: int, kind: int) -> bytes:
    """A filter that blocks all types but one: a bit that is set blocks its type."""
    if version == 4:  # struct icmp_filter: types from 0 to 31
        return struct.pack("=I", 0xFFFF_FFFF & ~(1 << kind))
    words = [0xFFFF_FFFF] * 8  # struct icmp6_filter
    words[kind >> 5] &= ~(1 << (kind & 31))
    return struct.pack("=8I", *words)
