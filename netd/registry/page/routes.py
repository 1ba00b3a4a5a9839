"""The page's addresses: itself, its sections, the news of what has changed, and its files."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from netd.registry.http.call import Call, Failure
from netd.registry.http.routing import Handler, Route, Routes
from netd.registry.page.assets import ASSETS
from netd.registry.page.document import SECTIONS, document
from netd.registry.page.guard import CACHED, HEADERS, UNCACHED, admit
from netd.registry.page.looking import Looking
from netd.registry.page.rendering import Rendering
from netd.registry.page.view import Query

WATCHERS_MAX: Final = 64
SETTLE_S: Final = 2.0  # for the daemon's answers; without them, the page says what it lacks
BEAT_S: Final = 15.0  # between signs of life of the news
RETRY_MS: Final = 1000  # until a browser whose connection has ended asks for the news again
SLOW_S: Final = 10.0  # for a reader to take what is sent
HTML: Final = "text/html; charset=utf-8"


class Paths:
    """`names` are those of this host and of its zone."""

    def __init__(
        self,
        rendering: Rendering,
        looking: Looking,
        names: Callable[[], tuple[str, str]],
        enabled: Callable[[], bool],
    ) -> None:
        self.refused_watchers = 0
        self._rendering = rendering
        self._looking = looking
        self._names = names
        self._enabled = enabled
        self._run = secrets.token_hex(8)

    @property
    def routes(self) -> Routes:
        return Routes(
            Route(path, {"GET": self._guarded(handler)}, bare)
            for path, handler, bare in (
                ("/", self.page, True),
                ("/section/", self.section, False),
                ("/watch", self.watch, False),
                ("/assets/", self.asset, False),
            )
        )

    async def page(self, call: Call) -> web.StreamResponse:
        if call.rest:
            raise Failure(404, "There is nothing here; the page is at /")
        self._looking.look()
        await self._looking.settled(SETTLE_S)
        query = Query.of(call.target)
        sections = await self._rendering.page(query)
        node, zone = self._names()
        return _html(document(node, zone, sections, query, self._run))

    async def section(self, call: Call) -> web.StreamResponse:
        if call.rest not in SECTIONS:
            raise Failure(404, "There is no such section")
        self._looking.look()
        return _html(self._rendering.section(call.rest, Query.of(call.target)))

    async def asset(self, call: Call) -> web.StreamResponse:
        asset = ASSETS.find(call.rest)
        if asset is None:
            raise Failure(404, "There is no such file")
        fields = {"ETag": asset.etag, **CACHED}
        known = [each.strip() for each in call.header("If-None-Match").split(",")]
        if asset.etag in known:
            return web.Response(status=304, headers=fields)
        return web.Response(body=asset.content, headers={"Content-Type": asset.kind, **fields})

    async def watch(self, call: Call) -> web.StreamResponse:
        """The versions of all sections, now and after each change (Server-Sent Events)."""
        if self._looking.watchers >= WATCHERS_MAX:
            self.refused_watchers += 1
            raise Failure(503, f"{WATCHERS_MAX} readers are told of changes already")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Server": "netd", **UNCACHED, **HEADERS}
        )
        self._looking.watchers += 1
        try:
            self._looking.look()
            await response.prepare(call.request)
            if call.method != "HEAD":
                await self._tell(response)
        except (TimeoutError, ConnectionError):
            # Who takes nothing any more begins anew, if there is still somebody.
            response.force_close()
            if call.request.transport is not None:
                call.request.transport.abort()
        finally:
            self._looking.watchers -= 1
        return response

    async def _tell(self, response: web.StreamResponse) -> None:
        version = -1
        while True:
            now = await self._rendering.wait(version, BEAT_S)
            if now == version:
                text = b":\n\n"
            else:
                news = {"run": self._run, "versions": self._rendering.versions()}
                now = self._rendering.version
                text = b"retry: %d\ndata: %s\n\n" % (RETRY_MS, msgspec.json.encode(news))
            version = now
            async with asyncio.timeout(SLOW_S):
                await response.write(text)

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(call: Call) -> web.StreamResponse:
            admit(call, enabled=self._enabled())
            return await handler(call)

        return answer


def decorate(call: Call, response: web.StreamResponse) -> None:
    """What all answers have, those that fail too."""
    for name, value in (*HEADERS.items(), *UNCACHED.items()):
        response.headers.setdefault(name, value)


def _html(markup: str) -> web.Response:
    return web.Response(body=markup.encode("utf-8", "replace"), headers={"Content-Type": HTML})
