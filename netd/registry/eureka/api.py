"""Eureka's API as a part of the registry: what it consists of, and who tells whom."""

import time
from collections.abc import Callable, Iterator

from netd.model.directory import Count, RegistrySettings
from netd.registry.api import Api
from netd.registry.catalog.daemon import Daemon
from netd.registry.eureka.clients import Clients
from netd.registry.eureka.leases import Leases
from netd.registry.eureka.routes import Paths
from netd.registry.eureka.view import View
from netd.registry.feed import Reader
from netd.registry.http.caller import Caller, Callers
from netd.registry.http.listeners import HttpListeners, Wanted
from netd.registry.http.server import HttpServer


class EurekaApi:
    """`callers` are told of the feed by whoever owns them, before `readers`.

    `clock` and `now_ms`, the Unix time, are for tests.
    """

    def __init__(
        self,
        api: Api,
        callers: Callers,
        *,
        drain: Callable[[], None],
        changed: Callable[[], None],
        wanted: Callable[[RegistrySettings], Wanted],
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.view = View(clock)
        self._clients = Clients()
        self._daemon = Daemon(api, drain)
        self._leases = Leases(self.view, callers, self._clients, self._daemon, now_ms)
        self._paths = Paths(self.view, self._leases, self._charge)
        self.server = HttpServer("eureka", self._paths.routes, callers, drain=drain)
        self.listeners = HttpListeners(self.server, wanted, changed)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Of the feed, in this order: who can ask is answered from what there is."""
        return (self.view, self._clients, self.listeners)

    def _charge(self, caller: Caller, calls: int) -> None:
        self.server.charge(caller, calls)

    async def close(self) -> None:
        await self.listeners.close()
        await self.server.close()
        await self._leases.stop()

    def counts(self) -> Iterator[Count]:
        yield from self.server.counts()
        yield from self._paths.counts()
        yield from self._daemon.renewals.counts("eureka")
