"""A server of HTTP: connections within limits, calls to their handlers, failures as text."""

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from netd.model.directory import Count
from netd.registry.api import Refused, Unreachable
from netd.registry.dns.limits import Bucket, Connections
from netd.registry.http.answers import text
from netd.registry.http.call import PROGRESS_MIN, STALL_S, Call, Failure, Targets, too_many
from netd.registry.http.caller import Caller, Callers
from netd.registry.http.hosts import admit
from netd.registry.http.metering import Metered
from netd.registry.http.routing import Routes, handler_of

log = logging.getLogger(__name__)

# One that waits for a change holds its connection, so these bound the watchers, too.
CONNECTIONS_MAX: Final = 20_000
CONNECTIONS_EACH_MAX: Final = 512  # of a container; those of the host are bounded together
CALLS_PER_S: Final = 1000.0  # of a container: names are answered by the same process
_BUCKETS_MAX: Final = 65_536
IDLE_S: Final = 75.0  # between two calls
LINGER_S: Final = 2.0  # for what is left of a body that nobody has read
CLOSE_S: Final = 1.0

Decorate = Callable[[Call, web.StreamResponse], None]


class HttpServer:
    """Answers by `routes`, as `name` in what is counted. What `drain` takes over before each call
    is part of its answer. `decorate` may give each answer more headers before it is sent. `most`
    connections are taken, as many as there are descriptors for unless it is given; containers
    have half of them at the most. Who does not begin to ask, does not go on with a body or
    does not read an answer for `stall_s` is not waited for.
    """

    def __init__(
        self,
        name: str,
        routes: Routes,
        callers: Callers,
        *,
        drain: Callable[[], None],
        decorate: Decorate | None = None,
        most: int | None = None,
        most_each: int = CONNECTIONS_EACH_MAX,
        calls_per_s: float = CALLS_PER_S,
        stall_s: float = STALL_S,
    ) -> None:
        self.callers = callers
        most = _room() if most is None else most
        self.connections = Connections(most, most)
        self.guests = Connections(most // 2, most_each)
        self.refused = 0
        self.stalled = 0  # connections that were given up
        self.stall_s = stall_s
        self._calls_per_s = calls_per_s
        self._buckets: dict[str, Bucket] = {}
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._routes = routes
        self._drain = drain
        self._decorate = decorate
        self._targets = Targets()
        self._answered: Counter[int] = Counter()
        self._server = _Server(self)

    @property
    def factory(self) -> Callable[[], asyncio.BaseProtocol]:
        """For `loop.create_server`."""
        return self._server

    async def close(self) -> None:
        """End all connections; those that wait for a change too."""
        self._server.pre_shutdown()
        await self._server.shutdown(CLOSE_S)

    def counts(self) -> Iterator[Count]:
        name = self._name
        for status, value in sorted(self._answered.items()):
            labels = {"api": name, "status": str(status)}
            yield Count(name="http_answers_total", labels=labels, value=value)
        labels = {"api": name}
        yield Count(name="http_connections", labels=labels, value=self.connections.open)
        yield Count(name="http_refused_total", labels=labels, value=self.refused)
        yield Count(name="http_stalled_total", labels=labels, value=self.stalled)

    async def answer(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        if caller.is_host:
            response = await self._answer(request, caller, None)
        else:
            bucket = self._bucket(caller.party)
            bucket.tokens -= 1
            if bucket.tokens >= 0 or bucket.fill(self._loop.time()):
                response = await Metered(self._answer(request, caller, bucket), bucket)
            else:
                response = text(429, too_many().text)
        self._answered[response.status] += 1
        return response

    def charge(self, caller: Caller, calls: int) -> None:
        """Count one call as so many more. A guest that has used up its rate by them waits for the
        next one.
        """
        if not caller.is_host:
            self._bucket(caller.party).tokens -= calls

    def _bucket(self, party: str) -> Bucket:
        """What calls of a guest's are taken from."""
        bucket = self._buckets.get(party)
        if bucket is None:
            if len(self._buckets) >= _BUCKETS_MAX:
                self._buckets.clear()
            bucket = self._buckets[party] = Bucket(self._calls_per_s, self._loop.time())
        return bucket

    async def _answer(
        self, request: web.BaseRequest, caller: Caller, bucket: Bucket | None
    ) -> web.StreamResponse:
        call = None
        try:
            raw = request.raw_path
            if not raw.startswith("/"):  # RFC 9112, 3.2.2: the whole URL
                raw = "/" + raw.partition("://")[2].partition("/")[2]
            target = self._targets.of(raw)
            call = Call(
                request, target, caller, bucket=bucket, stall_s=self.stall_s, callers=self.callers
            )
            admit(call, self.callers.zone)
            handler = handler_of(self._routes, call)
            self._drain()
            response = await handler(call)
        except Failure as failure:
            response = text(failure.status, failure.text, failure.headers)
        except Unreachable as error:
            response = text(500, f"netd cannot be reached: {error}")
        except Refused as error:
            response = text(error.status if error.status != 404 else 500, error.detail)
        except web.RequestPayloadError as error:
            response = text(400, f"Request decode failed: {error}")
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = text(500, "internal error; the registry's log has the traceback")
        if not response.prepared:
            response.headers["Server"] = "netd"
            if call is not None and self._decorate is not None:
                self._decorate(call, response)
        return response


class _Server(web.Server):
    """Makes a connection of each socket that is accepted. A caller that leaves ends its call."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(_not_called, handler_cancellation=True)
        self.server = server

    def __call__(self) -> "_Connection":
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            logger=log,
            access_log=None,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,
        )


class _Connection(web.RequestHandler):
    """One connection. Where it comes from cannot change, who that is can."""

    def __init__(self, server: _Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server.server
        self._source = ""
        self._party = ""
        self._asked = False
        self._counted: list[Connections] = []
        self._silent: asyncio.TimerHandle | None = None
        self._stalling: asyncio.TimerHandle | None = None
        self._request_handler = self._call

    async def _call(self, request: web.BaseRequest) -> web.StreamResponse:
        self._asked = True
        return await self._server.answer(request, self._server.callers.of(self._source))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._source = peer[0] if isinstance(peer, tuple) and peer else "127.0.0.1"
        super().connection_made(transport)
        assert self.transport is not None
        self._silent = self._loop.call_later(self._server.stall_s, self._end_unless_asked)
        # So writing pauses as soon as there is something that the other side does not take.
        self.transport.set_write_buffer_limits(high=0)
        server = self._server
        limits = [server.connections]
        caller = server.callers.of(self._source)
        self._party = caller.party
        if not caller.is_host:
            limits.append(server.guests)
        for limit in limits:
            if not limit.enter(self._party):
                server.refused += 1
                self._turn_away()
                return
            self._counted.append(limit)

    def connection_lost(self, exc: BaseException | None) -> None:
        for limit in self._counted:
            limit.leave(self._party)
        self._counted.clear()
        self._await_nothing()
        if self._silent is not None:
            self._silent.cancel()
        super().connection_lost(exc)

    # Deadlines

    def _end_unless_asked(self) -> None:
        """Between two calls there is `IDLE_S`, of which aiohttp takes care."""
        if self.transport is not None and not self._asked:
            self._server.stalled += 1
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_progress()

    def resume_writing(self) -> None:
        self._await_nothing()
        super().resume_writing()

    def _await_progress(self) -> None:
        assert self.transport is not None
        left = self.transport.get_write_buffer_size()
        self._stalling = self._loop.call_later(self._server.stall_s, self._look, left)

    def _await_nothing(self) -> None:
        if self._stalling is not None:
            self._stalling.cancel()
            self._stalling = None

    def _look(self, left: int) -> None:
        """Whether of `left` bytes that were to be sent some have been."""
        if self.transport is None:
            return
        if left - self.transport.get_write_buffer_size() >= PROGRESS_MIN:
            self._await_progress()
            return
        self._server.stalled += 1
        self.transport.abort()

    def log_exception(self, *args: Any, **options: Any) -> None:
        # After the answer aiohttp reads what is left of a body, and may find it malformed again.
        if not isinstance(options.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **options)

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
        if status >= 500:
            self.log_exception("aiohttp failed", exc_info=exc)
        response = text(status, "Bad request" if status == 400 else HTTPStatus(status).phrase)
        response.force_close()
        return response

    def _turn_away(self) -> None:
        """Answer before there is a request, and close the connection."""
        body = b"Too many connections"
        assert self.transport is not None
        self.transport.write(
            b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
        )
        self.transport.close()


def _room() -> int:
    """A third of what descriptors there are: there are two APIs, names and checks."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, soft // 3)


async def _not_called(request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("each connection has a handler of its own")
