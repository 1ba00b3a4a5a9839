"""A stream that is written by whoever makes the news, not by a task that hears of it.

So what has been told to the engine is in the socket of a reader before the engine goes on: a
reader that takes all there is before it answers somebody knows what had been done by then.
"""

import asyncio
from typing import Final

import msgspec
from aiohttp import HttpVersion11, web

from netd.api.limits import Limits
from netd.api.use_cases import Following

# As much as may wait in the process; what the reader's socket has room for is no part of it.
_WAITING_BYTES: Final = 64 * 1024
_AT_ONCE: Final = 100  # values that are encoded into one chunk
_CHUNKS: Final = 5  # then others may work, however quickly the reader takes a long table
_encode = msgspec.json.Encoder().encode_lines


class Pushing:
    """Writes what `source` has as soon as there is some and the reader takes it."""

    def __init__(self, request: web.BaseRequest, source: Following, limits: Limits) -> None:
        self._request = request
        self._source = source
        self._limits = limits
        # aiohttp frames a body so, too, and ends it with `write_eof`.
        self._chunked = request.version >= HttpVersion11
        self._wake = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Return at the end of the source. Raises `TimeoutError` for a reader that stalls."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the reader has gone")
        transport.set_write_buffer_limits(high=_WAITING_BYTES)
        self._source.on_news = self._news
        while True:
            self._wake.clear()
            more = self._write()
            if more:
                await asyncio.sleep(0)
            elif self._is_full():
                async with asyncio.timeout(self._limits.stalled_s):
                    await self._request.writer.drain()
            elif self._source.ended or self._stopping:
                return
            else:
                await self._wait()

    def stop(self) -> None:
        """Have it end when the reader has what there is."""
        self._stopping = True
        self._wake.set()

    def close(self) -> None:
        self._source.close()

    async def _wait(self) -> None:
        """For news; what comes meanwhile is written where it is made."""
        try:
            async with asyncio.timeout(self._limits.heartbeat_s):
                await self._wake.wait()
        except TimeoutError:
            self._send(b"\n")  # an empty line: the stream lives

    def _news(self) -> None:
        more = self._write()
        if more or self._source.ended or self._is_full():
            self._wake.set()

    def _write(self) -> bool:
        """Write what there is; whether there may be more that the reader would take."""
        for _ in range(_CHUNKS):
            if self._is_full():
                return False
            values = self._source.take(_AT_ONCE)
            if not values:
                return False
            self._send(_encode(values))
        return True

    def _is_full(self) -> bool:
        transport = self._request.transport
        return transport is not None and transport.get_write_buffer_size() > _WAITING_BYTES

    def _send(self, lines: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return  # the task is about to hear of it
        if self._chunked:
            lines = b"%x\r\n%b\r\n" % (len(lines), lines)
        transport.write(lines)
