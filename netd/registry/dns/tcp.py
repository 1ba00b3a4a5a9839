"""DNS over TCP (RFC 7766): several queries on a connection, answered as soon as each is known."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Final, cast

from netd.registry.dns.limits import Connections
from netd.tasks import Tasks

IDLE_S: Final = 10.0  # without a whole query, or with answers that nobody takes
UNDER_WAY_MAX: Final = 32  # queries of one connection that others are asked about
_WRITE_BYTES_MAX: Final = 128 * 1024
_LENGTH: Final = struct.Struct("!H")

# Given a query and who asks: the answer, None to hang up, or what to wait for.
Answerer = Callable[[bytes, str], bytes | Awaitable[bytes | None] | None]


class TcpServer:
    """What all connections share. `refused` counts those that were too many; `party_of` says
    whom limits count for that connects from an address.
    """

    def __init__(
        self, answer: Answerer, connections: Connections, party_of: Callable[[str], str]
    ) -> None:
        self.answer = answer
        self.connections = connections
        self.party_of = party_of
        self.refused = 0
        self.tasks = Tasks()
        self.open: set[Connection] = set()

    def connection(self) -> "Connection":
        return Connection(self)

    async def close(self) -> None:
        for connection in list(self.open):
            connection.hang_up()
        await self.tasks.stop()


class Connection(asyncio.Protocol):
    """One client. Ends when it has been idle for `IDLE_S`."""

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()
        self._under_way = 0
        self._writable = True
        self._ending = False  # the client sends no more
        self._heard_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._client = ""
        self._party = ""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        client = peer[0] if peer else ""  # it has gone already
        self._party = self._server.party_of(client) if client else ""
        if not self._server.connections.enter(self._party):
            self._server.refused += 1
            self._transport.abort()
            return
        self._client = client
        self._server.open.add(self)
        self._transport.set_write_buffer_limits(high=_WRITE_BYTES_MAX)
        self._timer = self._loop.call_later(IDLE_S, self._look_for_life)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self in self._server.open:
            self._server.open.discard(self)
            self._server.connections.leave(self._party)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._held += data
        self._work()

    def eof_received(self) -> bool:
        """The client may have closed its half only, and wait for answers."""
        self._ending = True
        self._end_if_done()
        return True

    def pause_writing(self) -> None:
        self._writable = False
        self._pace()

    def resume_writing(self) -> None:
        self._writable = True
        self._work()

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _work(self) -> None:
        """Answer what has come whole, as much of it as may be under way."""
        at = 0
        held = self._held
        while self._may_go_on() and len(held) - at >= _LENGTH.size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(held, at)[0]
            if len(held) < end:
                break
            self._heard_s = self._loop.time()
            self._answer(bytes(held[at + _LENGTH.size : end]))
            at = end
        del held[:at]
        self._pace()
        self._end_if_done()

    def _may_go_on(self) -> bool:
        return self._transport is not None and self._writable and self._under_way < UNDER_WAY_MAX

    def _pace(self) -> None:
        """Read no more than can be answered: what else comes waits in the client's kernel."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._may_go_on():
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _answer(self, query: bytes) -> None:
        answer = self._server.answer(query, self._client)
        if answer is None or isinstance(answer, bytes):
            self._send(answer)
        else:
            self._under_way += 1
            self._server.tasks.start("dns over tcp", self._send_later(answer))

    async def _send_later(self, coming: Awaitable[bytes | None]) -> None:
        answer: bytes | None = None
        try:
            answer = await coming
        finally:
            self._under_way -= 1
            self._send(answer)
            self._work()

    def _send(self, answer: bytes | None) -> None:
        if self._transport is None:
            return
        if answer is None:
            self._transport.close()
            return
        self._heard_s = self._loop.time()
        self._transport.write(_LENGTH.pack(len(answer)) + answer)

    def _end_if_done(self) -> None:
        if self._ending and not self._under_way and self._transport is not None:
            self._transport.close()

    def _look_for_life(self) -> None:
        silent_s = self._loop.time() - self._heard_s
        if silent_s < IDLE_S:
            self._timer = self._loop.call_later(IDLE_S - silent_s, self._look_for_life)
        elif self._under_way and self._writable:
            self._timer = self._loop.call_later(IDLE_S, self._look_for_life)
        else:
            self.hang_up()
