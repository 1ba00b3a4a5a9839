"""The plugin's socket: HTTP in, calls out, and errors in the form that engines understand."""

import asyncio
import logging
import socket
import time
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web

from netd.model.errors import Invalid, NetdError, Unavailable
from netd.runtimes.docker.calls import ACTIVATE, Answer, Call, Handler, table
from netd.runtimes.docker.endpoints import Endpoints
from netd.runtimes.docker.ipam import Ipam
from netd.runtimes.docker.namer import Namer
from netd.runtimes.docker.networks import Networks
from netd.runtimes.docker.offers import Offers
from netd.runtimes.docker.use_cases import UseCases
from netd.tasks import Tasks

log = logging.getLogger(__name__)

DEADLINE_S: Final = 20.0  # engines wait for ever, and hold a network's lock meanwhile
GRACE_S: Final = 2.0
CALLS_MAX: Final = 256  # at a time; an engine makes one for each container that it starts
BODY_MAX_BYTES: Final = 1 << 20
CONTENT_TYPE: Final = "application/vnd.docker.plugins.v1.1+json"
_BACKLOG: Final = 512


class DockerPlugin:
    """Serves `cases` to Docker Engines on one Unix socket.

    `api` is the engine's own, where the names of containers are heard; "" for nowhere.
    """

    def __init__(self, cases: UseCases, *, api: str = "", deadline_s: float = DEADLINE_S) -> None:
        offers = Offers(time.monotonic)
        self.networks = Networks(cases, offers)
        self._calls = table(
            self.networks, Endpoints(cases, self.networks), Ipam(cases, self.networks, offers)
        )
        self._deadline_s = deadline_s
        self._tasks = Tasks()
        self.namer = Namer(cases, self.networks, api) if api else None
        self._under_way = 0
        self._counts = {"docker_calls": 0, "docker_calls_failed": 0}
        self._runner: web.ServerRunner | None = None

    def counters(self) -> Mapping[str, int]:
        return dict(self._counts)

    def levels(self) -> Mapping[str, int]:
        waiting = 0 if self.namer is None else self.namer.waiting
        return {"docker_calls_under_way": self._under_way, "docker_names_waiting": waiting}

    async def serve(self, sock: socket.socket) -> None:
        """Serve on a socket that the caller has made, and removes when this has stopped."""
        await self.networks.start()
        sock.setblocking(False)
        server = web.Server(self._handle, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=GRACE_S)
        await self._runner.setup()
        await web.SockSite(self._runner, sock, backlog=_BACKLOG).start()
        if self.namer is not None:
            self._tasks.start("names of Docker's containers", self.namer.run())
        log.info("Docker's driver netd answers on %s", sock.getsockname())

    async def stop(self) -> None:
        """Take no more calls, and give those under way a moment. Does nothing the second time."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._tasks.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.path.removeprefix("/")
        call = self._calls.get(name)
        if call is None or request.method != "POST":
            return web.Response(status=404, text="404 page not found\n")
        self._counts["docker_calls"] += 1
        if name == ACTIVATE and self.namer is not None:
            self.namer.activated.set()
        try:
            answer = await self._answer(name, call, request)
        except NetdError as error:
            self._counts["docker_calls_failed"] += 1
            log.warning("%s: %s", name, error.detail)
            return _refusal(400 if isinstance(error, Invalid) else 500, error.detail)
        except Exception:
            self._counts["docker_calls_failed"] += 1
            log.exception("%s failed", name)
            return _refusal(500, "a fault of netd; its log says more")
        body = b"{}" if answer is None else msgspec.json.encode(answer)
        return web.Response(body=body, content_type=CONTENT_TYPE)

    async def _answer(self, name: str, call: Call, request: web.BaseRequest) -> Answer:
        if self._under_way >= CALLS_MAX:
            raise Unavailable(f"{CALLS_MAX} calls are under way; try again")
        self._under_way += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                body = call.decode(await _read(request))
            return await self._finished(name, call, body)
        except TimeoutError:
            raise Unavailable("the request did not come to its end") from None
        finally:
            self._under_way -= 1

    async def _finished(self, name: str, call: Call, body: msgspec.Struct | None) -> Answer:
        """The answer of work that goes on when its deadline passes or the engine hangs up.

        What it makes after the deadline is taken back: the engine has given it up by then.
        """
        work = self._tasks.start(name, _caught(name, call.handler, body))
        await asyncio.wait((work,), timeout=self._deadline_s)
        if not work.done():
            after = "it goes on"
            if call.undo is not None:
                self._tasks.start(f"{name}, given up", _taken_back(name, work, call.undo, body))
                after = "what comes of it is taken back"
            raise Unavailable(f"not finished within {self._deadline_s:g} s; {after}")
        outcome: Answer | NetdError = work.result()
        if isinstance(outcome, NetdError):
            raise outcome
        return outcome


async def _taken_back(
    name: str,
    work: asyncio.Task[Answer | NetdError],
    undo: Handler,
    body: msgspec.Struct | None,
) -> None:
    if isinstance(await work, NetdError):
        return  # nothing was made
    outcome = await _caught(name, undo, body)
    if isinstance(outcome, NetdError):
        log.warning("%s came too late and is not taken back: %s", name, outcome.detail)


async def _caught(name: str, handler: Handler, body: msgspec.Struct | None) -> Answer | NetdError:
    """The answer, or the error, which is somebody's only as long as somebody waits."""
    try:
        return await handler(body)
    except NetdError as error:
        log.debug("%s: %s", name, error.detail)
        return error


async def _read(request: web.BaseRequest) -> bytes:
    """The body whatever type it claims to have: engines claim none."""
    body = b""
    async for chunk in request.content.iter_chunked(65_536):
        body += chunk
        if len(body) > BODY_MAX_BYTES:
            raise Invalid(f"a request has at most {BODY_MAX_BYTES} bytes")
    return body


def _refusal(status: int, detail: str) -> web.Response:
    """The network driver's errors are in `Err`, the IPAM driver's in `Error`."""
    body = msgspec.json.encode({"Err": detail, "Error": detail})
    return web.Response(status=status, body=body, content_type=CONTENT_TYPE)
