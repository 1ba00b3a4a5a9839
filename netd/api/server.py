"""The API server: from an idle object to a listening socket and back."""

import logging
import socket
from pathlib import Path

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from netd.api.auth import Authority
from netd.api.call import Backend
from netd.api.connection import ConnectionServer
from netd.api.dispatch import Dispatcher
from netd.api.limits import Limits
from netd.api.listening import BACKLOG, Listener, admit, listen
from netd.api.metrics import Metrics
from netd.api.openapi import document
from netd.api.routes import ROUTES
from netd.api.use_cases import Plugins, UseCases

log = logging.getLogger(__name__)

DEFAULT_LIMITS = Limits()


class ApiServer:
    """Serves `cases` on one Unix socket. Started once; stopping again does nothing."""

    def __init__(
        self,
        cases: UseCases,
        *,
        authority: Authority,
        registry: CollectorRegistry | None = None,
        limits: Limits = DEFAULT_LIMITS,
        plugins: Plugins | None = None,
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._authority = authority
        self._limits = limits
        described = msgspec.json.encode(document(ROUTES))
        backend = Backend(cases, Metrics(self.registry), described, plugins)
        self._dispatcher = Dispatcher(ROUTES, backend, limits)
        self._runner: web.ServerRunner | None = None
        self._listener: Listener | None = None

    async def start(self, path: Path | str, *, mode: int = 0o660) -> None:
        """Listen at `path` and serve. Raises what `listening.listen` raises."""
        self._listener = listen(Path(path), self._authority, mode)
        await self.serve(self._listener.sock)

    async def serve(self, sock: socket.socket) -> None:
        """Serve on a Unix socket that somebody else made and will remove, e.g. systemd."""
        if self._listener is None:
            admit(sock, self._authority)
        sock.setblocking(False)
        server = ConnectionServer(
            self._dispatcher,
            self._authority,
            self._limits.connections,
            logger=log,
            access_log=None,
            tcp_keepalive=False,
            auto_decompress=False,
            lingering_time=self._limits.grace_s,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=self._limits.grace_s)
        await self._runner.setup()
        # Listens once more, with the length of the queue that is given here.
        await web.SockSite(self._runner, sock, backlog=BACKLOG).start()
        log.info("the API answers on %s", sock.getsockname())

    async def stop(self) -> None:
        """Take no more calls, end streams, and give those under way the grace they have."""
        self._dispatcher.streams.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._dispatcher.mutations.settle(self._limits.grace_s)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
