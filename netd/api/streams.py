"""Streams: one JSON value on each line, as long as there are any (NDJSON)."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec
from aiohttp import web

from netd.api.limits import Limits
from netd.api.pushing import Pushing
from netd.api.use_cases import Following
from netd.model.errors import Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/x-ndjson"
# Times four or so is what a reader that does not read costs until it is cut off.
_CHUNK_BYTES: Final = 16 * 1024
_encode = msgspec.json.Encoder().encode


class Streams:
    """All streams under way, so that they can be ended when the daemon stops."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sources: set[asyncio.Task[None]] = set()
        self._pushing: set[Pushing] = set()
        self._stopping = False

    async def send(
        self,
        request: web.BaseRequest,
        values: AsyncIterator[object],
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Answer `request` with `values`; return after the last, or when the reader has gone.

        A body that ends without HTTP's last chunk tells the reader that something failed.
        """
        if self._stopping:
            raise Unavailable("netd is stopping")
        lines = _Lines()
        # The source is asked for its first value before the reader sees the answer begin: what
        # the reader causes after that must not be missed.
        source = asyncio.get_running_loop().create_task(lines.fill(values), name="stream")
        self._sources.add(source)
        source.add_done_callback(self._sources.discard)
        response = web.StreamResponse(headers={**headers, "Content-Type": MEDIA_TYPE})
        try:
            with self._ending(request):
                await asyncio.sleep(0)
                await response.prepare(request)
                if request.transport is not None:
                    request.transport.set_write_buffer_limits(high=_CHUNK_BYTES)
                while (chunk := await lines.take(self._limits.heartbeat_s)) is not None:
                    async with asyncio.timeout(self._limits.stalled_s):
                        await response.write(chunk)
                if source.done() and not source.cancelled() and source.exception() is not None:
                    log.error("a stream failed", exc_info=source.exception())
                    if request.transport is not None:
                        request.transport.close()
                else:
                    await response.write_eof()
        finally:
            source.cancel()
            await asyncio.wait((source,))
        return response

    async def push(
        self, request: web.BaseRequest, source: Following, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Answer `request` with what `source` has, as it comes; the rest as in `send`."""
        if self._stopping:
            raise Unavailable("netd is stopping")
        response = web.StreamResponse(headers={**headers, "Content-Type": MEDIA_TYPE})
        pushing = Pushing(request, source, self._limits)
        self._pushing.add(pushing)
        try:
            with self._ending(request):
                await response.prepare(request)
                await pushing.run()
                await response.write_eof()
        finally:
            pushing.close()
            self._pushing.discard(pushing)
        return response

    @contextmanager
    def _ending(self, request: web.BaseRequest) -> Iterator[None]:
        """A reader that goes ends its stream, and one that does not read is cut off."""
        try:
            yield
        except TimeoutError:
            log.warning("cut off a reader that took nothing for %g s", self._limits.stalled_s)
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            log.debug("the reader of a stream has gone")

    def stop(self) -> None:
        """End all streams after what they hold, and refuse new ones."""
        self._stopping = True
        for source in self._sources:
            source.cancel()
        for pushing in self._pushing:
            pushing.stop()


class _Lines:
    """Lines between a source and a writer: at most a chunk of them and one more."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._ended = False
        self._news = asyncio.Event()
        self._space = asyncio.Event()

    async def fill(self, values: AsyncIterator[object]) -> None:
        try:
            async for value in values:
                self._held += _encode(value)
                self._held += b"\n"
                self._news.set()
                if len(self._held) >= _CHUNK_BYTES:
                    self._space.clear()
                    await self._space.wait()
        finally:
            self._ended = True
            self._news.set()
            if isinstance(values, AsyncGenerator):
                await values.aclose()

    async def take(self, patience_s: float) -> bytes | None:
        """What there is; an empty line when there was nothing for so long; None at the end."""
        try:
            async with asyncio.timeout(patience_s):
                await self._news.wait()
        except TimeoutError:
            return b"\n"
        if not self._held:
            return None
        chunk = bytes(self._held)
        self._held.clear()
        self._space.set()
        if not self._ended:
            self._news.clear()
        return chunk
