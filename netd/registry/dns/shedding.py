"""Floods are thrown away by the kernel, before they fill the socket that others use too.

A program for the socket (classic BPF, Documentation/networking/filter.rst) compares the source of
each datagram with those that flood. No privilege is needed for that.
"""

import array
import asyncio
import ipaddress
import logging
import socket
import struct
from typing import Final

log = logging.getLogger(__name__)

SHED_S: Final = 1.0  # for how long nothing of a flood is looked at
SOURCES_MAX: Final = 32  # of one socket: each costs every datagram a few instructions

# include/uapi/asm-generic/socket.h, include/uapi/linux/bpf_common.h, filter.h
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_LOAD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_NETWORK_HEADER: Final = 0xFFF00000  # SKF_NET_OFF: what is loaded is in the IP header
_WHOLE: Final = 0xFFFFFFFF
_SOURCE_AT: Final = {4: 12, 6: 8}  # in the IP header: RFC 791, RFC 8200
_INSTRUCTION: Final = struct.Struct("=HBBI")


class Shedding:
    """Who is not listened to at which socket. `sources` counts how often one was shut out."""

    def __init__(self) -> None:
        self.sources = 0
        self._loop = asyncio.get_running_loop()
        self._shut: dict[socket.socket, set[str]] = {}

    def shut_out(self, sock: socket.socket, source: str) -> None:
        """Hear nothing of `source` at `sock` for `SHED_S`."""
        shut = self._shut.setdefault(sock, set())
        if source in shut or len(shut) >= SOURCES_MAX:
            return
        shut.add(source)
        self.sources += 1
        self._attach(sock, shut)
        self._loop.call_later(SHED_S, self._let_in, sock, source)
        log.debug("%s floods", source)

    def forget(self, sock: socket.socket) -> None:
        """The socket is closed."""
        self._shut.pop(sock, None)

    def _let_in(self, sock: socket.socket, source: str) -> None:
        shut = self._shut.get(sock)
        if shut is None:
            return
        shut.discard(source)
        if not shut:
            del self._shut[sock]
        self._attach(sock, shut)

    def _attach(self, sock: socket.socket, shut: set[str]) -> None:
        try:
            if not shut:
                sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
                return
            code = array.array("B", program(shut))
            place, length = code.buffer_info()
            fprog = struct.pack("@HP", length // _INSTRUCTION.size, place)
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
        except OSError as error:
            log.warning("a flood cannot be kept out: %s", error)


def program(sources: set[str]) -> bytes:
    """Instructions that drop what comes from `sources`: addresses, and prefixes of whole words,
    which are all of one family.
    """
    steps: list[tuple[int, int, int, int]] = []
    for source in sorted(sources):
        network = ipaddress.ip_network(source.partition("%")[0])
        packed = network.network_address.packed[: network.prefixlen // 8]
        words = [int.from_bytes(packed[at : at + 4], "big") for at in range(0, len(packed), 4)]
        for at, word in enumerate(words):
            steps.append((_LOAD_WORD, 0, 0, _NETWORK_HEADER + _SOURCE_AT[network.version] + 4 * at))
            # Unlike: on to what is behind this source's return.
            rest = 2 * (len(words) - at - 1) + 1
            steps.append((_JUMP_IF_EQUAL, 0, rest, word))
        steps.append((_RETURN, 0, 0, 0))
    steps.append((_RETURN, 0, 0, _WHOLE))
    return b"".join(_INSTRUCTION.pack(*step) for step in steps)
