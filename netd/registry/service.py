"""The registry from start to stop: what it consists of, and who tells whom."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from netd.model.directory import Count, Entry, RegistryReport, RegistrySettings
from netd.registry.api import Api
from netd.registry.apis import Apis
from netd.registry.checks.health import Health
from netd.registry.dns.forward import Forwarder
from netd.registry.dns.limits import Connections
from netd.registry.dns.listeners import Listeners
from netd.registry.dns.packets import Packets
from netd.registry.dns.server import DnsServer
from netd.registry.dns.tcp import TcpServer
from netd.registry.dns.upstreams import Upstreams
from netd.registry.feed import Entries, Feed, Reader
from netd.registry.listening import Place
from netd.registry.names import Names
from netd.registry.report import Reports
from netd.systemd import ServiceManager
from netd.tasks import Tasks

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 2048
CONNECTIONS_EACH_MAX: Final = 64
READY_S: Final = 10.0
LINGER_S: Final = 10.0  # for the next daemon, when the last has said that it ends


class Service(Reader):
    """The registry of the daemon at `path`, and of the service manager `manager`.

    `settled` is called when there is a table to answer from, which will stay for long. `page` is
    the listening socket of the page.
    """

    def __init__(
        self,
        path: str,
        manager: ServiceManager,
        settled: Callable[[], None] = lambda: None,
        page: socket.socket | None = None,
    ) -> None:
        self._path = path
        self._manager = manager
        self._settled = settled
        self._synced = asyncio.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._api = Api(path)
        self._reports = Reports(self._api, self._report)
        self._feed = Feed(path)
        names = Names(self._feed)
        self._upstreams = Upstreams(self._listens_at)
        self._forwarder = Forwarder(self._upstreams)
        self._server = DnsServer(names, self._forwarder, rate=RegistrySettings().queries_per_s)
        names.forget = self._server.packets.drop
        names.rescope = self._server.rescope
        connections = Connections(CONNECTIONS_MAX, CONNECTIONS_EACH_MAX)
        self._tcp = TcpServer(self._server.answer_tcp, connections, names.party_of)
        self._listeners = Listeners(self._server, self._tcp, self._reports.soon)
        self._health = Health(self._api, names)
        self._apis = Apis(
            path,
            self._api,
            self._feed,
            names,
            changed=self._reports.soon,
            counts=self._counts,
            page=page,
        )
        # In this order: who asks at a new address finds its names.
        self._feed.readers += [names, *self._apis.readers, self, self._listeners, self._health]

    @property
    def packets(self) -> Packets:
        """The answers that are kept."""
        return self._server.packets

    def report_soon(self) -> None:
        """Tell the daemon now what it would be told in a few seconds."""
        self._reports.soon()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        SIGUSR1 says that the daemon ends: then it goes on for `LINGER_S`, and longer if there
        is a daemon again by then. Without that, as when the daemon has been killed, it goes on
        until there is no folder any more for the socket of another one.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._loop.add_signal_handler(signal.SIGUSR1, self._linger)
        self._feed.start()
        self._health.start()
        self._tasks.start("reports", self._reports.run())
        self._tasks.start("service manager", self._tell_manager())
        if not self._manager.present:
            self._tasks.start("abandoned", self._end_when_abandoned())
        try:
            await self._stop.wait()
        finally:
            self._manager.stopping()
            await self._close()

    async def _close(self) -> None:
        self._feed.close()
        await self._health.stop()
        await self._apis.close()
        await self._tasks.stop()
        await self._listeners.close()
        await self._tcp.close()
        await self._server.close()
        await self._forwarder.close()
        await self._api.close()

    # As a reader of the feed

    def replace(self, entries: Entries) -> None:
        entry = entries.get(("zone", ""))
        if entry is not None and entry.zone is not None:
            self._configure(entry.zone.settings)
        self._settled()
        self._synced.set()
        self._reports.soon()

    def change(self, old: Entry | None, new: Entry) -> None:
        if new.zone is not None:
            self._configure(new.zone.settings)

    def _configure(self, settings: RegistrySettings) -> None:
        self._server.limit(settings.queries_per_s)
        self._forwarder.configure(settings)

    # What the daemon is told

    def _report(self) -> RegistryReport:
        return RegistryReport(
            revision=self._feed.revision,
            pid=os.getpid(),
            listening=self._listeners.listening + self._apis.listening,
            problems=self._listeners.problems | self._apis.problems,
            upstreams=tuple(map(str, self._upstreams.current())),
            counts=tuple(self._counts()),
        )

    def _counts(self) -> Iterator[Count]:
        yield from self._server.counts
        yield from self._forwarder.counts()
        yield from self._health.counts()
        yield from self._apis.counts()
        yield Count(name="dns_clients", value=self._server.clients)
        yield Count(name="dns_floods_total", value=self._server.shedding.sources)
        yield Count(name="dns_kept_answers", value=len(self._server.packets))
        yield Count(name="dns_kept_bytes", value=self._server.packets.size)
        yield Count(name="dns_forgotten_answers_total", value=self._server.packets.dropped)
        yield Count(name="dns_tcp_connections", value=self._tcp.connections.open)
        yield Count(name="dns_tcp_refused_total", value=self._tcp.refused)
        yield Count(name="directory_connections_total", value=self._feed.connections)
        yield Count(name="directory_faults_total", value=self._feed.faults)
        yield Count(name="directory_entries", value=len(self._feed.entries))

    async def _tell_manager(self) -> None:
        """That it is ready, so that containers are started when their names can be asked for;
        they do not wait for ever for a daemon that does not come. Then, that it lives.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                await self._synced.wait()
        self._manager.ready(f"{len(self._feed.entries)} entries")
        if self._manager.watchdog_s is None:
            return
        while True:
            self._manager.alive()
            self._manager.status(f"{len(self._feed.entries)} entries")
            await asyncio.sleep(self._manager.watchdog_s / 2)

    def _listens_at(self, address: str, port: int) -> bool:
        return Place(address, port) in self._listeners

    # Its end

    def _linger(self) -> None:
        log.info("the daemon ends; without another one, so does this in %g s", LINGER_S)
        self._loop.call_later(LINGER_S, self._end_if_alone, self._feed.connections)

    async def _end_when_abandoned(self) -> None:
        folder = Path(self._path).parent
        while True:
            await asyncio.sleep(LINGER_S)
            with suppress(OSError):  # who cannot look knows nothing
                if not self._feed.connected and not folder.exists():
                    log.info("%s is gone, so no daemon will come", folder)
                    self._stop.set()

    def _end_if_alone(self, connections: int) -> None:
        if self._feed.connections == connections:
            log.info("there is no other daemon")
            self._stop.set()
