"""aiohttp's server, with what netd knows of each connection."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from netd.api.auth import Access, Authority, Peer, peer_of
from netd.api.problems import MEDIA_TYPE, Internal, NotHttp, problem_of, status_of
from netd.model.errors import NetdError

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(web.RequestHandler):
    """One connection. Who is at its other end is asked once: it cannot change."""

    peer: Peer
    access: Access

    def __init__(self, server: web.Server, authority: Authority, **options: Any) -> None:
        super().__init__(server, **options)
        self._authority = authority

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = peer_of(transport.get_extra_info("socket"))
        self.access = self._authority.access(self.peer)
        super().connection_made(transport)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp itself could not handle, and close the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had already begun")
        error: NetdError
        if status == 400:
            error = NotHttp(message or "this is not HTTP/1.1")
        else:
            self.log_exception("aiohttp failed", exc_info=exc)
            error = Internal("the answer could not be sent; netd's log has the traceback")
        response = web.Response(
            status=status_of(type(error)),
            body=msgspec.json.encode(problem_of(error)),
            headers={"Content-Type": MEDIA_TYPE},
        )
        response.force_close()
        return response


class ConnectionServer(web.Server):
    """Makes a `Connection` for each accepted socket."""

    def __init__(self, handler: Handler, authority: Authority, **options: Any) -> None:
        # A reader that leaves ends its call; work that must go on is kept by `Mutations`.
        super().__init__(handler, handler_cancellation=True)
        self._authority = authority
        self._options = options

    def __call__(self) -> Connection:
        loop = asyncio.get_running_loop()
        return Connection(self, self._authority, loop=loop, **self._options)
