"""One question to one name server.

Whoever wants to answer in its place has to guess the port and the id, each chosen anew, before
the answer comes (RFC 5452). The kernel takes nothing from other addresses: sockets are connected.
"""

import asyncio
import socket
import struct
from collections import Counter
from secrets import randbits
from typing import Final

from netd.registry.dns import records
from netd.registry.dns.forward_answer import Foreign, NotOurs, read_answer
from netd.registry.dns.upstreams import Upstream
from netd.registry.dns.wire import CD, HEADER, RD, TCP_MAX_BYTES, Query, opt
from netd.registry.dns.wire_names import Malformed

TCP_S: Final = 2.0  # for a connection and its answer
IGNORED_MAX: Final = 50  # packets that answer something else, before it looks like an attack

_LENGTH: Final = struct.Struct("!H")
_DATAGRAM_MAX_BYTES: Final = 8192  # we ask for no more than 1,232
_WITHOUT_EDNS: Final = (records.FORMERR, records.NOTIMP)  # RFC 6891, 7


class Unanswered(Exception):
    """A name server gave no answer that is of use. `reason` is a word for the metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def ask(upstream: Upstream, query: Query, ignored: Counter[str]) -> Foreign:
    """The answer of `upstream`, by UDP, and by TCP if it is too long for that.

    It is `truncated` only if there is none by TCP. Waits for ever by UDP: packets that are not
    the answer are counted in `ignored` and change nothing. Raises `Unanswered`.
    """
    try:
        foreign = await _ask_udp(upstream, query, True, ignored)
        if foreign.rcode in _WITHOUT_EDNS:
            foreign = await _ask_udp(upstream, query, False, ignored)
        if foreign.truncated:
            foreign = await _ask_tcp(upstream, query) or foreign
    except Malformed:
        raise Unanswered("malformed") from None
    except OSError:
        raise Unanswered("unreachable") from None
    return foreign


async def _ask_udp(upstream: Upstream, query: Query, edns: bool, ignored: Counter[str]) -> Foreign:
    loop = asyncio.get_running_loop()
    query_id, question = randbits(16), query.key
    with socket.socket(upstream.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(upstream.sockaddr())  # binds it to a port that the kernel chooses at random
        sock.send(_message(query, query_id, edns))
        for _ in range(IGNORED_MAX):
            data = await loop.sock_recv(sock, _DATAGRAM_MAX_BYTES)
            try:
                return read_answer(data, query_id, question)
            except NotOurs:
                ignored["wrong_answer"] += 1
    raise Unanswered("flooded")


async def _ask_tcp(upstream: Upstream, query: Query) -> Foreign | None:
    """The answer by TCP; None if there is none in time. Raises `Malformed`."""
    query_id = randbits(16)
    message = _message(query, query_id, True)
    try:
        async with asyncio.timeout(TCP_S):
            data = await _exchange(upstream, _LENGTH.pack(len(message)) + message)
        foreign = read_answer(data, query_id, query.key)
    except (OSError, TimeoutError, NotOurs):
        return None
    return None if foreign.truncated else foreign


async def _exchange(upstream: Upstream, message: bytes) -> bytes:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    with socket.socket(upstream.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        await loop.sock_connect(sock, upstream.sockaddr())
        await loop.sock_sendall(sock, message)
        (length,) = _LENGTH.unpack(await _receive(sock, _LENGTH.size))
        return await _receive(sock, length)


async def _receive(sock: socket.socket, size: int) -> bytes:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    out = bytearray()
    while len(out) < size:
        data = await loop.sock_recv(sock, min(size - len(out), TCP_MAX_BYTES))
        if not data:
            raise ConnectionError("the connection ended within an answer")
        out += data
    return bytes(out)


def _message(query: Query, query_id: int, edns: bool) -> bytes:
    header = HEADER.pack(query_id, RD | query.flags & CD, 1, 0, 0, int(edns))
    return header + query.key + (opt(query, records.NOERROR) if edns else b"")
