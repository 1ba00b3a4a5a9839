"""The page as a part of the registry: what it consists of, and who tells whom."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from netd.model.directory import Count, Entry, RegistrySettings
from netd.registry.feed import Entries, Feed, Reader
from netd.registry.http.caller import Callers
from netd.registry.http.listeners import HttpListeners, Wanted
from netd.registry.http.server import HttpServer
from netd.registry.page.daemon import Daemon
from netd.registry.page.history import History
from netd.registry.page.holdings import Holdings
from netd.registry.page.looking import Looking
from netd.registry.page.rendering import Rendering
from netd.registry.page.routes import Paths, decorate
from netd.registry.page.view import Query, View
from netd.tasks import Tasks

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 256
_BACKLOG: Final = 64


class Page(Reader):
    """Of the daemon at `path`, on `sock`, a listening Unix socket, and at the address that is
    configured. `callers` are told of the feed by whoever owns them, before `readers`.
    """

    def __init__(
        self,
        path: str,
        feed: Feed,
        callers: Callers,
        *,
        changed: Callable[[], None],
        sock: socket.socket | None = None,
    ) -> None:
        self._settings = RegistrySettings()
        self._feed = feed
        self.history = History()
        self.holdings = Holdings(self._told)
        self._rendering = Rendering(self._view, lambda: time.time_ns() // 1_000_000)
        self._daemon = Daemon(path)
        self.looking = Looking(self._daemon, lambda: self.holdings.zone.node, self._found)
        self._paths = Paths(
            self._rendering, self.looking, self._names, lambda: self._settings.page_enabled
        )
        self._server = HttpServer(
            "page",
            self._paths.routes,
            callers,
            drain=feed.drain,
            decorate=decorate,
            most=CONNECTIONS_MAX,
        )
        self.listeners = HttpListeners(self._server, _places, changed)
        self._tasks = Tasks()
        self._accepting: asyncio.Server | None = None
        if sock is not None:
            self._tasks.start("page's socket", self._accept(sock))

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Of the feed, in this order."""
        return (self, self.history, self.holdings, self.listeners)

    @property
    def factory(self) -> Callable[[], asyncio.BaseProtocol]:
        """What makes a connection of each socket that is accepted."""
        return self._server.factory

    async def close(self) -> None:
        await self.listeners.close()
        if self._accepting is not None:
            self._accepting.close()
        await self._server.close()
        await self._tasks.stop()
        await self.looking.close()
        self._rendering.close()
        await self._daemon.close()

    def counts(self) -> Iterator[Count]:
        yield from self._server.counts()
        yield Count(name="page_watchers", value=self.looking.watchers)
        yield Count(name="page_watchers_refused_total", value=self._paths.refused_watchers)
        yield Count(name="page_sections_drawn_total", value=self._rendering.drawn)
        yield Count(name="page_rounds_total", value=self.looking.rounds)
        yield Count(name="page_checks_with_history", value=len(self.history))

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        entry = entries.get(("zone", ""))
        if entry is not None and entry.zone is not None:
            self._configure(entry.zone.settings)

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.zone is not None:
            self._configure(new.zone.settings)

    def _configure(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self.history.enabled = settings.page_enabled

    # Who tells whom

    def _told(self, kind: str) -> None:
        """The feed has told something of this kind."""
        self._rendering.changed((kind,))
        self.looking.after(kind)

    def _found(self, parts: Iterable[str]) -> None:
        """The daemon has answered something else than before."""
        self._rendering.changed(parts)

    def _view(self, query: Query) -> View:
        return View(self.looking.facts, self.holdings, self.history, self._feed.connected, query)

    def _names(self) -> tuple[str, str]:
        return self.holdings.zone.node, self.holdings.zone.zone

    async def _accept(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        self._accepting = await loop.create_unix_server(
            self._server.factory, sock=sock, backlog=_BACKLOG
        )
        log.info("the page is at %s", sock.getsockname())


def _places(settings: RegistrySettings) -> Wanted:
    return Wanted.at(settings.page_address if settings.page_enabled else "")
