"""aiohttp's server, with what netd knows of each connection."""

import asyncio
import select
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

from netd.api.auth import Access, Authority, Peer, peer_of
from netd.api.problems import MEDIA_TYPE, Internal, NotHttp, problem_of, status_of
from netd.model.errors import NetdError, Unavailable

_MESSAGE_MAX: Final = 200  # characters of what aiohttp says about a request that is not HTTP

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(web.RequestHandler):
    """One connection. Who is at its other end is asked once: it cannot change."""

    peer: Peer
    access: Access

    def __init__(self, server: "ConnectionServer", **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        self.peer = peer_of(sock)
        self.access = self._server.authority.access(self.peer)
        super().connection_made(transport)
        count = self._server.entered(self.peer)
        if _given_up(sock.fileno()):
            self.force_close()
            return
        if count > self._server.most and self.peer.uid != 0:
            self._turn_away(
                f"user id {self.peer.uid} has {self._server.most} connections open, the most "
                "there may be; close some"
            )

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.left(self.peer)
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **options: Any) -> None:
        # After the answer aiohttp reads what is left of a body: one that was found malformed is
        # found so again, and its sender has been told.
        if not isinstance(options.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **options)

    def _turn_away(self, detail: str) -> None:
        """Answer before there is a request, and close the connection."""
        problem = problem_of(Unavailable(detail))
        body = msgspec.json.encode(problem)
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        assert self.transport is not None
        self.transport.write(head.encode() + body)
        self.transport.close()

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
            error = NotHttp(_plain(message or "this is not HTTP/1.1"))
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
    """Makes a `Connection` for each accepted socket; each user but root has at most `most`.

    A connection that sends nothing holds a descriptor for as long as it likes. So nobody may
    have so many that none is left for others.
    """

    def __init__(self, handler: Handler, authority: Authority, most: int, **options: Any) -> None:
        # A reader that leaves ends its call; work that must go on is kept by `Mutations`.
        super().__init__(handler, handler_cancellation=True)
        self.authority = authority
        self.most = most
        self._open: Counter[int] = Counter()
        self._options = options

    def entered(self, peer: Peer) -> int:
        """Count a connection; how many the peer's user has now."""
        self._open[peer.uid] += 1
        return self._open[peer.uid]

    def left(self, peer: Peer) -> None:
        self._open[peer.uid] -= 1
        if not self._open[peer.uid]:
            del self._open[peer.uid]

    def __call__(self) -> Connection:
        loop = asyncio.get_running_loop()
        return Connection(self, loop=loop, **self._options)


def _given_up(descriptor: int) -> bool:
    """Whether the caller has closed already. Then it has waited in vain, as while systemd alone
    held the socket, and what it asked for, it may have taken back since.
    """
    ends = select.poll()
    ends.register(descriptor, 0)  # POLLHUP is told in any case, and not of one half alone
    return bool(ends.poll(0))


def _plain(message: str) -> str:
    """aiohttp's words on one line, without the arrow that points into the request."""
    line = " ".join(message.split()).removesuffix("^").rstrip()
    return line if len(line) <= _MESSAGE_MAX else line[:_MESSAGE_MAX] + "…"
